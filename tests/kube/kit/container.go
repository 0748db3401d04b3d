package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The longest pause between restarts, as of a real kubelet.
const longestBackoff = 5 * time.Minute

// container is one of a pod's. What is not fixed is guarded by its worker's lock.
type container struct {
	w    *worker
	spec *corev1.Container
	init bool

	process *exec.Cmd
	// Closed when the present process has ended.
	exited chan struct{}
	// Why it is not running, where it is to run; empty while it runs and when it is over.
	waiting, message string
	started          metav1.Time
	last             *corev1.ContainerStateTerminated
	id               string
	restarts         int32
	// The startup probe has passed, or there is none.
	startupPassed bool
	ready         bool
	// It has ended and will not run again.
	over bool
	// Closed with the first of these changes, and made anew.
	changed chan struct{}
}

func newContainer(w *worker, spec *corev1.Container, init bool) *container {
	waiting := "ContainerCreating"
	if len(w.pod.Spec.InitContainers) > 0 {
		waiting = "PodInitializing"
	}
	return &container{w: w, spec: spec, init: init, waiting: waiting, changed: make(chan struct{})}
}

// sidecar is whether it is an init container that stays.
func (c *container) sidecar() bool {
	return c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (c *container) pidFile() string { return filepath.Join(c.w.dir, c.spec.Name+".pid") }

func (c *container) log() string { return c.w.key + "_" + c.spec.Name }

// set changes the state and tells whoever waits for it.
func (c *container) set(change func()) {
	c.w.mu.Lock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
	c.w.mu.Unlock()
	c.w.nudge()
}

// until waits for a state; false where work is over before.
func (c *container) until(ctx context.Context, state func() bool) bool {
	for {
		c.w.mu.Lock()
		reached, changed := state(), c.changed
		c.w.mu.Unlock()
		if reached {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

func (c *container) untilStarted(ctx context.Context) bool {
	return c.until(ctx, func() bool { return c.process != nil && c.startupPassed })
}

func (c *container) untilOver(ctx context.Context) bool {
	return c.until(ctx, func() bool { return c.over })
}

// keep runs the container, again and again where its pod says so; whether it ended well in the end.
func (c *container) keep(ctx context.Context) bool {
	for ctx.Err() == nil {
		if err := c.launch(ctx); err != nil {
			c.cannotStart(err)
			select {
			case <-ctx.Done():
				return false
			case <-time.After(retryPause):
			}
			continue
		}
		probing, stop := context.WithCancel(ctx)
		go c.probe(probing)
		code := exitCode(c.process.Wait())
		stop()
		_ = os.Remove(c.pidFile())
		again := c.ended(code)
		if !again {
			return code == 0
		}
		select {
		case <-ctx.Done():
			c.set(func() { c.over, c.waiting = true, "" })
			return false
		case <-time.After(c.pause()):
		}
		c.set(func() { c.restarts++ })
	}
	return false
}

func (c *container) cannotStart(err error) {
	reason := "CreateContainerError"
	if _, unknown := err.(unknownImage); unknown {
		reason = "ImagePullBackOff"
	}
	c.w.mu.Lock()
	news := c.message != err.Error()
	c.w.mu.Unlock()
	if news {
		c.w.say("%s: %v", c.spec.Name, err)
		c.set(func() { c.waiting, c.message = reason, err.Error() })
	}
}

// ended notes the end of the process; whether it is to be started again.
func (c *container) ended(code int) bool {
	policy := c.w.object().Spec.RestartPolicy
	again := policy == corev1.RestartPolicyAlways || (policy == corev1.RestartPolicyOnFailure && code != 0)
	if c.init {
		again = c.sidecar() || (code != 0 && policy != corev1.RestartPolicyNever)
	}
	c.set(func() {
		again = again && !c.w.stopping
		reason := "Error"
		if code == 0 {
			reason = "Completed"
		}
		c.last = &corev1.ContainerStateTerminated{ExitCode: int32(code), Reason: reason, StartedAt: c.started,
			FinishedAt: metav1.Now(), ContainerID: c.id}
		if code > 128 {
			c.last.Signal = int32(code - 128)
		}
		c.process, c.ready, c.startupPassed = nil, false, false
		c.over, c.waiting, c.message = !again, "", ""
		if again {
			c.waiting, c.message = "CrashLoopBackOff", "it has ended and is started again"
		}
		close(c.exited)
	})
	return again
}

// pause before the next start: none before the first restart.
func (c *container) pause() time.Duration {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.restarts == 0 {
		return 0
	}
	return min(c.w.k.o.backoff<<min(c.restarts-1, 16), longestBackoff)
}

// start starts the process unless the pod is being stopped: under the lock, so that who stops it finds it or keeps it
// from starting.
func (c *container) start(process *exec.Cmd) error {
	var err error
	c.set(func() {
		if c.w.stopping {
			err = errors.New("the pod is being stopped")
			return
		}
		if err = process.Start(); err != nil {
			return
		}
		c.process, c.exited, c.started = process, make(chan struct{}), metav1.Now()
		c.waiting, c.message, c.over = "", "", false
		c.ready, c.startupPassed = false, c.spec.StartupProbe == nil
		c.id = fmt.Sprintf("kit://%016x%016x", rand.Uint64(), rand.Uint64())
	})
	return err
}

// signal reaches the container's first process; with it end all others of the container. The lock keeps a signal from
// reaching whoever has the number next.
func (c *container) signal(number syscall.Signal) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.process != nil {
		_ = c.process.Process.Signal(number)
	}
}

// stopAll ends containers side by side and returns when all have ended: preStop hooks, the stop signal, and a kill when
// grace is over.
func stopAll(containers []*container, grace time.Duration) {
	done := make(chan struct{}, len(containers))
	for _, c := range containers {
		go func() {
			c.stop(grace)
			done <- struct{}{}
		}()
	}
	for range containers {
		<-done
	}
}

func (c *container) stop(grace time.Duration) {
	c.w.mu.Lock()
	runs, exited := c.process != nil, c.exited
	c.w.mu.Unlock()
	if !runs {
		return
	}
	if grace > 0 {
		limit, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		c.preStop(limit)
		c.signal(syscall.SIGTERM)
		select {
		case <-exited:
			return
		case <-limit.Done():
		}
	}
	c.signal(syscall.SIGKILL)
	<-exited
}

func (c *container) preStop(ctx context.Context) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	hook := c.spec.Lifecycle.PreStop
	var err error
	switch {
	case hook.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		}
	case hook.HTTPGet != nil:
		err = c.httpGet(ctx, hook.HTTPGet)
	case hook.Exec != nil:
		err = c.exec(ctx, hook.Exec.Command)
	}
	if err != nil {
		c.w.say("%s: preStop: %v", c.spec.Name, err)
	}
}

// exec runs a command inside the container.
func (c *container) exec(ctx context.Context, argv []string) error {
	c.w.mu.Lock()
	process := c.process
	c.w.mu.Unlock()
	if process == nil {
		return fmt.Errorf("it does not run")
	}
	pid := fmt.Sprint(process.Process.Pid)
	args := append([]string{"--target", pid, "--net", "--mount", "--pid", "--root", "--wd", "--"}, argv...)
	command := exec.CommandContext(ctx, "nsenter", args...)
	command.Env = process.Env
	command.WaitDelay = time.Second
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
