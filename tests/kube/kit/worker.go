package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Between tries of what may come right by itself: a Secret that is not there yet, an API server that is away.
	retryPause = 200 * time.Millisecond
	// The API server's own default where a pod says nothing.
	defaultGrace = 30 * time.Second
)

// worker is one pod's, from its first sight until its object is gone.
type worker struct {
	k *kubelet
	// NAMESPACE_NAME, as in the logs' names.
	key string
	// The pod's folder: volumes and pid files.
	dir  string
	gone chan struct{}
	// There is something new: the object, or a container's state. One is enough.
	wake chan struct{}

	mu         sync.Mutex
	pod        *corev1.Pod
	net        podNetwork
	started    metav1.Time
	containers []*container // init containers first
	volumes    map[string]string
	// Why containers have not been started yet, for people.
	obstacle   string
	conditions map[corev1.PodConditionType]corev1.PodCondition
	// Nothing is to be started again.
	stopping bool
}

func newWorker(k *kubelet, pod *corev1.Pod) *worker {
	key := pod.Namespace + "_" + pod.Name
	w := &worker{k: k, key: key, dir: k.o.at("pods", key+"_"+string(pod.UID)[:8]), gone: make(chan struct{}),
		wake: make(chan struct{}, 1), pod: pod, started: metav1.Now()}
	for i := range pod.Spec.InitContainers {
		w.containers = append(w.containers, newContainer(w, &pod.Spec.InitContainers[i], true))
	}
	for i := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, &pod.Spec.Containers[i], false))
	}
	return w
}

func (w *worker) observe(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.nudge()
}

func (w *worker) object() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) say(format string, args ...any) { w.k.say(w.key, format, args...) }

// live is the pod's whole life.
func (w *worker) live(ctx context.Context) {
	// Work ends when the pod is to stop, or is gone without having been asked.
	work, stop := context.WithCancel(ctx)
	defer stop()
	prepared := make(chan struct{})
	go func() {
		defer close(prepared)
		w.run(work)
	}()
	ending := false
	status := reporter{w: w}
	for {
		object := w.object()
		if object.DeletionTimestamp != nil && !ending {
			ending = true
			stop()
			go w.end(ctx, prepared)
		}
		select {
		case <-w.gone:
			stop()
			<-prepared
			w.terminate(0)
			w.cleanUp()
			return
		case <-ctx.Done():
			return
		case <-w.wake:
			status.note()
		case <-status.due():
			status.report(ctx)
		}
	}
}

// run brings everything up, in order, and returns when the last container has been started or work is over.
func (w *worker) run(ctx context.Context) {
	bound := w.retry(ctx, "", func() error {
		if object := w.object(); object.Spec.NodeName == "" {
			return w.k.bind(ctx, object)
		}
		return nil
	})
	if !bound {
		return
	}
	made := w.retry(ctx, "network", func() error {
		net, err := w.k.network.add()
		w.mu.Lock()
		w.net = net
		w.mu.Unlock()
		return err
	})
	if !made {
		return
	}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		w.say("%v", err)
		return
	}
	if !w.retry(ctx, "volumes", func() error { return w.makeVolumes(ctx) }) {
		return
	}
	w.runContainers(ctx)
}

// retry repeats a step until it succeeds or work is over; whether it has succeeded. What keeps it is in the status.
func (w *worker) retry(ctx context.Context, what string, step func() error) bool {
	for {
		err := step()
		text := ""
		if err != nil {
			text = err.Error()
			if what != "" {
				text = what + ": " + text
			}
		}
		w.mu.Lock()
		news := w.obstacle != text
		w.obstacle = text
		w.mu.Unlock()
		if news {
			if err != nil && !errors.Is(err, errUnschedulable) {
				w.say("%s", text)
			}
			w.nudge()
		}
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(retryPause):
		}
	}
}

// runContainers runs init containers one after another, then the others side by side.
func (w *worker) runContainers(ctx context.Context) {
	for _, c := range w.containers {
		switch {
		case !c.init:
			go c.keep(ctx)
		case c.sidecar():
			go c.keep(ctx)
			if !c.untilStarted(ctx) {
				return
			}
		default:
			if !c.keep(ctx) {
				return
			}
		}
	}
	go w.endSidecars(ctx)
}

// endSidecars waits for pods that end by themselves: their sidecars go with the last container.
func (w *worker) endSidecars(ctx context.Context) {
	var sidecars []*container
	for _, c := range w.containers {
		if c.init && c.sidecar() {
			sidecars = append(sidecars, c)
		}
	}
	if len(sidecars) == 0 {
		return
	}
	for _, c := range w.containers {
		if !c.init && !c.untilOver(ctx) {
			return
		}
	}
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	stopAll(sidecars, w.grace())
}

func (w *worker) grace() time.Duration {
	object := w.object()
	for _, seconds := range []*int64{object.DeletionGracePeriodSeconds, object.Spec.TerminationGracePeriodSeconds} {
		if seconds != nil {
			return time.Duration(*seconds) * time.Second
		}
	}
	return defaultGrace
}

// end stops the containers with grace and then lets the object go, as a kubelet does.
func (w *worker) end(ctx context.Context, prepared <-chan struct{}) {
	<-prepared
	w.terminate(w.grace())
	object := w.object()
	now := int64(0)
	options := metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &object.UID}}
	for {
		err := w.k.client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, options)
		if err == nil || notFound(err) {
			return
		}
		w.say("delete: %v", err)
		select {
		case <-w.gone:
			return
		case <-ctx.Done():
			return
		case <-time.After(retryPause):
		}
	}
}

// terminate stops every container: sidecars, last started first, after the others.
func (w *worker) terminate(grace time.Duration) {
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	var others, sidecars []*container
	for _, c := range w.containers {
		if c.init && c.sidecar() {
			sidecars = append([]*container{c}, sidecars...)
		} else {
			others = append(others, c)
		}
	}
	until := time.Now().Add(grace)
	stopAll(others, grace)
	for _, c := range sidecars {
		stopAll([]*container{c}, max(0, time.Until(until)))
	}
}

func (w *worker) cleanUp() {
	w.mu.Lock()
	net := w.net
	w.mu.Unlock()
	if net.name != "" {
		w.k.network.remove(net)
	}
}

// reporter writes the status when it differs from what it wrote last, and no sooner than a kubelet would.
type reporter struct {
	w     *worker
	last  string
	timer <-chan time.Time
}

// note takes down that something may have changed.
func (r *reporter) note() {
	if r.timer == nil {
		r.timer = time.After(r.w.k.o.statusDelay)
	}
}

func (r *reporter) due() <-chan time.Time { return r.timer }

func (r *reporter) report(ctx context.Context) {
	r.timer = nil
	object := r.w.object()
	status := r.w.status()
	text, err := json.Marshal(map[string]any{"status": status, "metadata": map[string]any{"uid": object.UID}})
	if err != nil || string(text) == r.last {
		return
	}
	patched, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = r.w.k.client.CoreV1().Pods(object.Namespace).Patch(patched, object.Name, types.StrategicMergePatchType, text, metav1.PatchOptions{}, "status")
	switch {
	case err == nil:
		r.last = string(text)
	case !notFound(err):
		r.w.say("status: %v", err)
		r.timer = time.After(retryPause)
	}
}
