package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Addresses inside the network namespace. Each cluster has one of its own, so they never clash.
const (
	// The API server's, the nodes' and the bridge's address.
	gateway = "10.244.0.1"
	// Pods get addresses of this range, which is the bridge's.
	podRange = "10.244.0.0/16"
	// Every address of this range is COMMAND's own: it can listen on any of them, and pods reach it there.
	localRange   = "10.245.0.0/16"
	serviceRange = "10.96.0.0/16"
	bridge       = "kit0"
)

// options of one cluster.
type options struct {
	dir         string
	images      string
	nodes       []node
	backoff     time.Duration
	statusDelay time.Duration
	reuse       bool
	eager       bool
	inFlight    int
	command     []string
}

// node is one that pods are given to; an empty zone means a node without that label.
type node struct{ name, zone string }

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("kit run", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "where keys, data, logs and the kubeconfig go; required")
	flags.StringVar(&o.images, "images", "", "JSON file: what stands for which image")
	nodes := flags.String("nodes", "node-a=zone-a,node-b=zone-b,node-c", "nodes as NAME=ZONE or NAME, separated by commas")
	flags.DurationVar(&o.backoff, "restart-backoff", time.Second,
		"pause before a container's second restart, doubled for each further one; the first is at once")
	flags.DurationVar(&o.statusDelay, "status-delay", 0,
		"how late a pod's status tells what happened; a real kubelet takes up to a second")
	flags.BoolVar(&o.reuse, "reuse-addresses", false, "give the lowest free address, so that a dead pod's is soon another's")
	flags.BoolVar(&o.eager, "eager-probes", false,
		"until a probe passes for the first time, ask every 100 ms whatever its delay and period say")
	flags.IntVar(&o.inFlight, "max-requests-inflight", 400, "requests that the API server answers at once before it says 429")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if o.dir == "" {
		return nil, errors.New("--dir is required")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	o.dir = dir
	for _, item := range strings.Split(*nodes, ",") {
		name, zone, _ := strings.Cut(item, "=")
		o.nodes = append(o.nodes, node{name, zone})
	}
	if o.command = flags.Args(); len(o.command) == 0 {
		return nil, errors.New("no COMMAND")
	}
	return o, nil
}

// at is a path in the cluster's folder.
func (o *options) at(names ...string) string {
	return filepath.Join(append([]string{o.dir}, names...)...)
}

// makeFolders makes those that must be there before anything starts. `shared` is seen by every container under its own
// path; `layers` holds what containers write outside their volumes.
func (o *options) makeFolders() error {
	for _, name := range []string{"bin", "certs", "layers", "logs", "pods", "shared"} {
		if err := os.MkdirAll(o.at(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}
