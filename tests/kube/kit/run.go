package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long the inner half may take to end what runs in it before it is killed.
const stopWithin = 10 * time.Second

// run starts the inner half as the first process of new network, mount and process namespaces, so that nothing outside
// sees any of it, and the kernel ends all of it with that process. Whoever starts this program may die without a word:
// the death signal passes that on.
func run(args []string) int {
	// The death signal follows the thread that has started the process, so that thread must not end early.
	runtime.LockOSThread()
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fail(err)
	}
	if os.Getppid() != parent {
		return fail(errors.New("the process that started this one has ended"))
	}
	options, err := parse(args)
	if err != nil {
		return fail(err)
	}
	if err := options.makeFolders(); err != nil {
		return fail(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	command := exec.Command(self, append([]string{"inside"}, args...)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	// An interrupt from the keyboard reaches COMMAND by itself, which decides whether to end.
	signal.Ignore(syscall.SIGINT)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	if err := command.Start(); err != nil {
		return fail(fmt.Errorf("new namespaces: %w (this needs root)", err))
	}
	go func() {
		<-signals
		_ = command.Process.Signal(syscall.SIGTERM)
		time.Sleep(stopWithin)
		_ = command.Process.Kill()
	}()
	return exitCode(command.Wait())
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "kit:", err)
	return 1
}

// exitCode is that of a shell: 128 and the signal's number for a process that a signal has ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return fail(err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
