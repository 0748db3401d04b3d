package main

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what the pod's object is to say, of what is true now.
func (w *worker) status() *corev1.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := &corev1.PodStatus{Phase: corev1.PodPending, StartTime: &w.started, HostIP: gateway,
		HostIPs: []corev1.HostIP{{IP: gateway}}}
	if w.net.ip != "" {
		status.PodIP, status.PodIPs = w.net.ip, []corev1.PodIP{{IP: w.net.ip}}
	}
	initialized, ready, over, failed := true, true, true, false
	for _, c := range w.containers {
		one := c.status(w.obstacle)
		if c.init {
			status.InitContainerStatuses = append(status.InitContainerStatuses, one)
			initialized = initialized && c.initialized()
			// A sidecar that is not ready keeps its pod from being ready.
			ready = ready && (one.Ready || !c.sidecar())
			// An init container that has failed for good keeps the others from ever running.
			failed = failed || (c.over && !c.sidecar() && c.last.ExitCode != 0 && !w.stopping)
			continue
		}
		status.ContainerStatuses = append(status.ContainerStatuses, one)
		ready = ready && one.Ready
		over = over && c.over
		failed = failed || (c.over && c.last.ExitCode != 0)
		if c.id != "" {
			status.Phase = corev1.PodRunning
		}
	}
	if over || (failed && !initialized) {
		ready = false
		status.Phase = corev1.PodSucceeded
		if failed {
			status.Phase = corev1.PodFailed
		}
	}
	for _, one := range []struct {
		kind corev1.PodConditionType
		on   bool
	}{{corev1.PodInitialized, initialized}, {corev1.ContainersReady, ready}, {corev1.PodReady, ready}} {
		status.Conditions = append(status.Conditions, w.condition(one.kind, one.on))
	}
	return status
}

// initialized is whether an init container has done its part.
func (c *container) initialized() bool {
	if c.sidecar() {
		return c.process != nil && c.startupPassed
	}
	return c.over && c.last.ExitCode == 0
}

func (c *container) status(obstacle string) corev1.ContainerStatus {
	started := c.process != nil && c.startupPassed
	one := corev1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image, ImageID: "kit://" + c.spec.Image, ContainerID: c.id,
		RestartCount: c.restarts, Ready: c.ready && started, Started: &started}
	if c.init && !c.sidecar() {
		one.Ready = c.initialized()
	}
	switch {
	case c.process != nil:
		one.State.Running = &corev1.ContainerStateRunning{StartedAt: c.started}
		one.LastTerminationState.Terminated = c.last
	case c.over:
		one.State.Terminated = c.last
	default:
		one.State.Waiting = &corev1.ContainerStateWaiting{Reason: c.waiting, Message: c.message}
		if c.message == "" {
			one.State.Waiting.Message = obstacle
		}
		one.LastTerminationState.Terminated = c.last
	}
	return one
}

// condition keeps the time of the last change.
func (w *worker) condition(kind corev1.PodConditionType, on bool) corev1.PodCondition {
	one := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
	if on {
		one.Status = corev1.ConditionTrue
	}
	if old, ok := w.conditions[kind]; ok && old.Status == one.Status {
		return old
	}
	if w.conditions == nil {
		w.conditions = map[corev1.PodConditionType]corev1.PodCondition{}
	}
	w.conditions[kind] = one
	return one
}
