package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	etcdAddress     = "127.0.0.1:2379"
	etcdPeerAddress = "127.0.0.1:2380"
	// A start takes 2 s on an idle machine; this is for one where several clusters start beside a build.
	readyWithin = 3 * time.Minute
	readyPause  = 25 * time.Millisecond
	// The controllers that own what tests look at; those of nodes, clouds and quotas of volumes have nothing to do here.
	controllers = "garbage-collector-controller,namespace-controller,serviceaccount-controller," +
		"root-ca-certificate-publisher-controller,deployment-controller,replicaset-controller," +
		"statefulset-controller,daemonset-controller,job-controller,endpointslice-controller," +
		"disruption-controller,resourcequota-controller,clusterrole-aggregation-controller"
)

// etcd serves one member, without fsync: a test's data need not survive the machine.
func etcd(args []string) error {
	config := embed.NewConfig()
	config.Dir, config.UnsafeNoFsync, config.LogLevel = args[0], true, "error"
	client, peer := url.URL{Scheme: "http", Host: etcdAddress}, url.URL{Scheme: "http", Host: etcdPeerAddress}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	return <-server.Err()
}

// bringUp starts every part in order and returns when the API server answers, the nodes are there and the kubelet runs.
func bringUp(ctx context.Context, o *options, parts *parts, log io.Writer) error {
	credentials, err := writeCredentials(o)
	if err != nil {
		return err
	}
	if err := writeKubectl(o); err != nil {
		return err
	}
	if err := parts.start("etcd", false, o.at("etcd")); err != nil {
		return err
	}
	if err := parts.start("apiserver", true, apiserverFlags(o)...); err != nil {
		return err
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig([]byte(credentials.kubeconfig))
	if err != nil {
		return err
	}
	// The kubelet must never be what a test waits for.
	rest.QPS, rest.Burst = -1, -1
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	if err := untilReady(ctx, client, parts); err != nil {
		return err
	}
	err = parts.start("controller-manager", false,
		"--kubeconfig="+o.at("kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1",
		"--controllers="+controllers, "--use-service-account-credentials=false",
		"--service-account-private-key-file="+o.at("sa.key"), "--root-ca-file="+o.at("certs", "apiserver.crt"),
		"--kube-api-qps=500", "--kube-api-burst=1000")
	if err != nil {
		return err
	}
	kubelet, err := newKubelet(client, o, log)
	if err != nil {
		return err
	}
	if err := kubelet.start(ctx); err != nil {
		return err
	}
	return untilUsable(ctx, client)
}

func apiserverFlags(o *options) []string {
	return []string{
		"--etcd-servers=http://" + etcdAddress,
		"--bind-address=" + gateway, "--advertise-address=" + gateway, "--secure-port=6443",
		"--cert-dir=" + o.at("certs"),
		"--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + o.at("sa.pub"), "--service-account-signing-key-file=" + o.at("sa.key"),
		"--token-auth-file=" + o.at("tokens.csv"), "--authorization-mode=RBAC",
		"--audit-policy-file=" + o.at("audit-policy.yaml"), "--audit-log-path=" + o.at("logs", "audit.log"),
		// Each request is in the file when its answer is: a test reads it at once.
		"--audit-log-mode=blocking",
		fmt.Sprintf("--max-requests-inflight=%d", o.inFlight),
		fmt.Sprintf("--max-mutating-requests-inflight=%d", o.inFlight/2+1),
	}
}

func untilReady(ctx context.Context, client kubernetes.Interface, parts *parts) error {
	deadline := time.Now().Add(readyWithin)
	for {
		answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil && string(answer) == "ok" {
			return nil
		}
		select {
		case err := <-parts.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyPause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the API server is not ready after %s: %v; see logs/apiserver.log", readyWithin, err)
		}
	}
}

// untilUsable waits for what pods in `default` need, which controllers write: their account and the cluster's certificate.
func untilUsable(ctx context.Context, client kubernetes.Interface) error {
	deadline := time.Now().Add(readyWithin)
	for {
		_, account := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", getOptions)
		_, certificate := client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", getOptions)
		if account == nil && certificate == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the namespace default is not usable after %s: %v, %v", readyWithin, account, certificate)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyPause):
		}
	}
}

// writeKubectl puts a kubectl of the cluster's version where COMMAND finds it.
func writeKubectl(o *options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	quoted := "'" + strings.ReplaceAll(self, "'", `'\''`) + "'"
	return os.WriteFile(o.at("bin", "kubectl"), []byte("#!/bin/sh\nexec "+quoted+" kubectl \"$@\"\n"), 0o755)
}
