package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside is the first process of the new namespaces: it brings the cluster up, runs COMMAND, and ends with its status.
// When it ends the kernel kills every other process here, and mounts and links go with their namespaces.
func inside(args []string) int {
	// As in run: COMMAND's death signal follows the thread.
	runtime.LockOSThread()
	o, err := parse(args)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	// A file beside the parts' own logs, so that COMMAND has the terminal for itself.
	log, err := os.Create(o.at("logs", "kit.log"))
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	if err := enter(o); err != nil {
		return fail(err)
	}
	parts := newParts(o, log)
	if err := bringUp(ctx, o, parts, log); err != nil {
		return fail(err)
	}
	return accompany(ctx, o, parts)
}

// enter makes the namespaces usable: mounts that nobody outside sees, and a bridge for the pods.
func enter(o *options) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	// The folder of `ip netns`, which names the pods' namespaces.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	for _, folder := range []string{"/run/netns", o.at("layers")} {
		if err := unix.Mount("tmpfs", folder, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return ip("",
		"link set lo up",
		"link add "+bridge+" type bridge",
		"addr add "+gateway+"/16 dev "+bridge,
		"link set "+bridge+" up",
		"route add local "+localRange+" dev lo",
	)
}

// accompany runs COMMAND until it ends, until the cluster breaks, or until somebody asks to stop.
func accompany(ctx context.Context, o *options, parts *parts) int {
	command := exec.Command(o.command[0], o.command[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(),
		"LONGSHORE_KUBE_DIR="+o.dir,
		"KUBECONFIG="+o.at("kubeconfig"),
		"PATH="+o.at("bin")+":"+os.Getenv("PATH"))
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fail(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		return exitCode(err)
	case err := <-parts.failed:
		return fail(err)
	case <-ctx.Done():
		return fail(errors.New("told to stop"))
	}
}
