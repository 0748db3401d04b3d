// The kit is a Kubernetes cluster for tests on a machine that has no container runtime: etcd, kube-apiserver and
// kube-controller-manager of one Kubernetes version, kubectl, and a small kubelet that runs each pod as processes.
//
//	kit run [flags] -- COMMAND...   a cluster in namespaces of its own, and COMMAND in it
//	kit kubectl ...                 kubectl of the same version
//	kit aibrix-runtime [--port N]   stands for the sidecar of that name: it answers its probes and nothing else
//
// The other parts are started by `kit run` itself.
package main

import (
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = "usage: kit run [flags] -- COMMAND... | kit kubectl ... | kit aibrix-runtime [--port N]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	part, args := os.Args[1], os.Args[2:]
	// What each part's own command line parser and help texts see.
	os.Args = append([]string{part}, args...)
	switch part {
	case "run":
		os.Exit(run(args))
	case "inside":
		os.Exit(inside(args))
	case "etcd":
		exit(part, etcd(args))
	case "apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kubectl":
		if cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()) != nil {
			os.Exit(1)
		}
	case "aibrix-runtime":
		exit(part, aibrixRuntime(args))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

func exit(part string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", part, err)
		os.Exit(1)
	}
}
