package main

import (
	"flag"
	"io"
	"net"
	"net/http"
	"slices"
)

// aibrixRuntime answers what a kubelet asks AIBrix's sidecar. It does nothing of what that sidecar does: everything else
// is 404, which is how a client tells that it is not to be spoken to.
func aibrixRuntime(args []string) error {
	flags := flag.NewFlagSet("aibrix_runtime", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	host, port := flags.String("host", "", ""), flags.String("port", "8080", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	healthy := []string{"/healthz", "/ready"}
	return http.ListenAndServe(net.JoinHostPort(*host, *port), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !slices.Contains(healthy, r.URL.Path) {
			http.NotFound(w, r)
		}
	}))
}
