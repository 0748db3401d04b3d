package main

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
)

// network gives each pod a namespace with one address on the bridge.
type network struct {
	reuse bool
	mu    sync.Mutex
	used  map[int]bool
	last  int
}

// podNetwork is one pod's.
type podNetwork struct {
	number   int
	ip, name string
}

// path is where the namespace can be joined.
func (n podNetwork) path() string { return "/run/netns/" + n.name }

func (n *network) add() (podNetwork, error) {
	number := n.take()
	made := podNetwork{number: number, ip: fmt.Sprintf("10.244.%d.%d", number/256, number%256), name: fmt.Sprintf("pod%d", number)}
	link := fmt.Sprintf("veth%d", number)
	err := ip("",
		"netns add "+made.name,
		"link add "+link+" type veth peer name eth0 netns "+made.name,
		"link set "+link+" master "+bridge+" up",
	)
	if err == nil {
		err = ip(made.name,
			"addr add "+made.ip+"/16 dev eth0",
			"link set eth0 up",
			"link set lo up",
			"route add default via "+gateway)
	}
	if err != nil {
		n.remove(made)
		return podNetwork{}, err
	}
	return made, nil
}

// remove takes the namespace away at once, with whatever still listens in it.
func (n *network) remove(gone podNetwork) {
	// The link goes with its other end, but only when the last process there has ended: so it is taken down first.
	_ = ip("", fmt.Sprintf("link del veth%d", gone.number))
	_ = ip("", "netns del "+gone.name)
	n.mu.Lock()
	delete(n.used, gone.number)
	n.mu.Unlock()
}

// take finds the number of a free address: the one after the last given, so that an address comes back late, or the
// lowest, so that it comes back soon.
func (n *network) take() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.last
	if n.reuse {
		next = 0
	}
	for {
		next = (next + 1) % 65000
		// The first addresses are the gateway's, and .0 and .255 look like a network's own to some.
		if low := next % 256; next > 9 && low != 0 && low != 255 && !n.used[next] {
			n.used[next], n.last = true, next
			return next
		}
	}
}

// ip runs lines of `ip -batch`, in the network namespace of that name or in this one: one process for all of them.
func ip(namespace string, lines ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	command := exec.Command("ip", args...)
	command.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
