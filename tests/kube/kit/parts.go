package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// How often a part that a test holds down is looked after.
const holdPause = 20 * time.Millisecond

// parts are the cluster's own processes: this binary again, each with a log and a pid file.
type parts struct {
	o   *options
	log io.Writer
	// The first part that cannot go on.
	failed chan error
}

func newParts(o *options, log io.Writer) *parts {
	return &parts{o: o, log: log, failed: make(chan error, 1)}
}

// start runs a part and watches it. One that `restarts` is started again when it ends, as its machine would, but not
// while `NAME.hold` is in the cluster's folder: so a test takes the API server away and gives it back.
func (p *parts) start(name string, restarts bool, args ...string) error {
	command, err := p.spawn(name, args)
	if err != nil {
		return err
	}
	go func() {
		for {
			ended := command.Wait()
			if !restarts {
				p.fail(fmt.Errorf("%s ended: %w; see logs/%s.log", name, describe(ended), name))
				return
			}
			fmt.Fprintf(p.log, "%s ended: %v\n", name, describe(ended))
			for held(p.o.at(name + ".hold")) {
				time.Sleep(holdPause)
			}
			if command, err = p.spawn(name, args); err != nil {
				p.fail(err)
				return
			}
			// One that ends at once must not keep a processor busy.
			time.Sleep(holdPause)
		}
	}()
	return nil
}

func (p *parts) spawn(name string, args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.o.at("logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(self, append([]string{name}, args...)...)
	command.Stdout, command.Stderr = log, log
	// A group of its own: an interrupt from the keyboard is for COMMAND alone.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return command, writePid(p.o.at(name+".pid"), command.Process.Pid)
}

func (p *parts) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// writePid writes the file as a whole, since tests read it at any time.
func writePid(path string, pid int) error {
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func held(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// describe has words for a process that ended well, too, where none should have ended.
func describe(err error) error {
	if err == nil {
		return fmt.Errorf("exit status 0")
	}
	return err
}
