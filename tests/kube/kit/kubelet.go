package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// manual marks a pod that the kubelet leaves alone: the test patches its status.
const manual = "kit.longshore.dev/manual"

var getOptions = metav1.GetOptions{}

// kubelet is every node's: it binds pods to nodes and runs them. Each pod has a worker.
type kubelet struct {
	client  kubernetes.Interface
	o       *options
	log     io.Writer
	images  images
	network *network
	// What of the machine is mounted below its root, for the containers.
	mounts []string

	mu      sync.Mutex
	workers map[types.UID]*worker
	// How many pods were bound, for turns.
	bound int
	// What a container's log held when each of its lives began, by NAMESPACE_POD_CONTAINER.
	logStarts map[string][]int64
}

func newKubelet(client kubernetes.Interface, o *options, log io.Writer) (*kubelet, error) {
	known, err := readImages(o.images)
	if err != nil {
		return nil, err
	}
	mounts, err := mountsBelowRoot(o)
	if err != nil {
		return nil, err
	}
	return &kubelet{client: client, o: o, log: log, images: known, network: &network{reuse: o.reuse, used: map[int]bool{}},
		mounts: mounts, workers: map[types.UID]*worker{}, logStarts: map[string][]int64{}}, nil
}

// start registers the nodes, serves logs and follows pods until ctx ends.
func (k *kubelet) start(ctx context.Context) error {
	for _, n := range k.o.nodes {
		if err := k.register(ctx, n); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	if err := k.serveLogs(); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(k.client, 0)
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { k.see(ctx, object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { k.see(ctx, object.(*corev1.Pod)) },
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			k.forget(object.(*corev1.Pod).UID)
		},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return nil
}

func (k *kubelet) register(ctx context.Context, n node) error {
	size := corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("512Gi"),
		"pods": resource.MustParse("1000"), "nvidia.com/gpu": resource.MustParse("64")}
	labels := map[string]string{corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux"}
	if n.zone != "" {
		labels[corev1.LabelTopologyZone] = n.zone
	}
	now := metav1.Now()
	made, err := k.client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: labels},
		Status: corev1.NodeStatus{
			Capacity: size, Allocatable: size,
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: gateway}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: logsPort}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KitReady",
				LastHeartbeatTime: now, LastTransitionTime: now}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	// Admission taints a new node as not ready, and here nobody else lifts that.
	untaint := []byte(`{"spec":{"taints":null}}`)
	_, err = k.client.CoreV1().Nodes().Patch(ctx, made.Name, types.MergePatchType, untaint, metav1.PatchOptions{})
	return err
}

func (k *kubelet) see(ctx context.Context, pod *corev1.Pod) {
	if pod.Annotations[manual] != "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[pod.UID]
	if w == nil {
		// What has ended for good before this kubelet saw it needs no worker.
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			return
		}
		w = newWorker(k, pod)
		k.workers[pod.UID] = w
		go w.live(ctx)
	}
	w.observe(pod)
}

func (k *kubelet) forget(uid types.UID) {
	k.mu.Lock()
	w := k.workers[uid]
	delete(k.workers, uid)
	k.mu.Unlock()
	if w != nil {
		close(w.gone)
	}
}

func (k *kubelet) say(about, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(k.log, "%s %s: %s\n", time.Now().UTC().Format("15:04:05.000"), about, line)
}

func notFound(err error) bool { return apierrors.IsNotFound(err) }
