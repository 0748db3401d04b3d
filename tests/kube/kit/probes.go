package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// How often an eager kubelet asks until a probe passes for the first time.
const eagerPause = 100 * time.Millisecond

// probe follows the startup probe, and when it has passed the other two, until ctx ends with the container.
func (c *container) probe(ctx context.Context) {
	if probe := c.spec.StartupProbe; probe != nil {
		passed := c.follow(ctx, probe, func(bool) bool { return true })
		if !passed {
			c.unhealthy(ctx, "startup")
			return
		}
		c.set(func() { c.startupPassed = ctx.Err() == nil })
	}
	if probe := c.spec.LivenessProbe; probe != nil {
		go func() {
			c.follow(ctx, probe, func(passed bool) bool { return !passed })
			c.unhealthy(ctx, "liveness")
		}()
	}
	mark := func(ready bool) bool {
		c.w.mu.Lock()
		same := c.ready == ready
		c.w.mu.Unlock()
		if !same {
			// The context ends before the next process starts: what this probe saw is not about that one.
			c.set(func() { c.ready = ready && ctx.Err() == nil })
		}
		return false
	}
	if probe := c.spec.ReadinessProbe; probe != nil {
		c.follow(ctx, probe, mark)
	} else {
		mark(true)
	}
}

// unhealthy ends a container whose startup or liveness probe has failed; it is started again as any that ends.
func (c *container) unhealthy(ctx context.Context, which string) {
	if ctx.Err() != nil {
		return
	}
	c.w.say("%s: its %s probe has failed", c.spec.Name, which)
	c.signal(syscall.SIGTERM)
	select {
	case <-ctx.Done():
	case <-time.After(c.w.grace()):
		c.signal(syscall.SIGKILL)
	}
}

// follow asks until `judged`, which is told whether the thresholds have been passed or failed, says that it is enough;
// what it was told last.
func (c *container) follow(ctx context.Context, probe *corev1.Probe, judged func(passed bool) bool) bool {
	period := time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
	next := time.Now().Add(time.Duration(probe.InitialDelaySeconds) * time.Second)
	var good, bad int32
	everPassed := false
	for ctx.Err() == nil {
		counts := true
		if pause := time.Until(next); pause > 0 {
			if c.w.k.o.eager && !everPassed {
				pause = min(pause, eagerPause)
			}
			select {
			case <-ctx.Done():
				return false
			case <-time.After(pause):
			}
			// An eager question in between: only a pass counts.
			counts = !time.Now().Before(next)
		}
		err := c.check(ctx, probe)
		if ctx.Err() != nil {
			return false
		}
		if counts {
			next = time.Now().Add(period)
		}
		switch {
		case err == nil:
			good, bad = good+1, 0
			if good >= max(probe.SuccessThreshold, 1) {
				everPassed = true
				if judged(true) {
					return true
				}
			}
		case counts:
			good, bad = 0, bad+1
			if bad >= max(probe.FailureThreshold, 1) && judged(false) {
				return false
			}
		}
	}
	return false
}

// check asks once; an error says why the answer is no.
func (c *container) check(ctx context.Context, probe *corev1.Probe) error {
	limit, cancel := context.WithTimeout(ctx, time.Duration(max(probe.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	switch {
	case probe.HTTPGet != nil:
		return c.httpGet(limit, probe.HTTPGet)
	case probe.TCPSocket != nil:
		port, err := c.port(probe.TCPSocket.Port)
		if err != nil {
			return err
		}
		connection, err := (&net.Dialer{}).DialContext(limit, "tcp", net.JoinHostPort(c.host(probe.TCPSocket.Host), port))
		if err != nil {
			return err
		}
		return connection.Close()
	case probe.Exec != nil:
		return c.exec(limit, probe.Exec.Command)
	}
	return errors.New("the kit has no probes of this kind")
}

// Nothing is kept between probes, and certificates are not looked at, as with a real kubelet.
var probeClient = http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
}}

func (c *container) httpGet(ctx context.Context, action *corev1.HTTPGetAction) error {
	port, err := c.port(action.Port)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(action.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	url := scheme + "://" + net.JoinHostPort(c.host(action.Host), port) + action.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/kit")
	for _, header := range action.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
		}
	}
	answer, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode >= 400 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}

func (c *container) host(asked string) string {
	if asked != "" {
		return asked
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.net.ip
}

// port is a number as it is, and a name as the container declares it.
func (c *container) port(asked intstr.IntOrString) (string, error) {
	if asked.Type == intstr.Int {
		return asked.String(), nil
	}
	for _, declared := range c.spec.Ports {
		if declared.Name == asked.StrVal {
			return fmt.Sprint(declared.ContainerPort), nil
		}
	}
	return "", fmt.Errorf("no port is called %s", asked.StrVal)
}
