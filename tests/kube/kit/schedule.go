package main

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// bind gives a pod its node: those that its selector and affinity allow, in turn. Resources are not counted.
func (k *kubelet) bind(ctx context.Context, pod *corev1.Pod) error {
	nodes, err := k.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	allowed := nodeaffinity.GetRequiredNodeAffinity(pod)
	var fitting []string
	for i := range nodes.Items {
		if ok, err := allowed.Match(&nodes.Items[i]); err == nil && ok {
			fitting = append(fitting, nodes.Items[i].Name)
		}
	}
	if len(fitting) == 0 {
		return k.unschedulable(ctx, pod, len(nodes.Items))
	}
	k.mu.Lock()
	chosen := fitting[k.bound%len(fitting)]
	k.bound++
	k.mu.Unlock()
	return k.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: chosen},
	}, metav1.CreateOptions{})
}

func (k *kubelet) unschedulable(ctx context.Context, pod *corev1.Pod, nodes int) error {
	text := fmt.Sprintf("0/%d nodes are available: none matches the pod's node selector or affinity", nodes)
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: corev1.PodPending,
		Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: corev1.PodReasonUnschedulable, Message: text, LastTransitionTime: metav1.Now()}},
	}})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return err
	}
	return errUnschedulable
}

var errUnschedulable = fmt.Errorf("no node fits")
