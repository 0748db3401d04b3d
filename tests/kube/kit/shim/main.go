// The shim is the last step of a container's start: it joins the pod's network, gives the process a root folder of its
// own and becomes it. It is a small program because the kit itself takes a tenth of a second to start.
//
//	shim SPEC      SPEC is JSON: see Spec in ../shimspec
//
// It is started in new mount and process namespaces. The root is the machine's own as an overlay: what the process
// writes there is seen by nobody else, and mount points are made in it without leaving anything on the machine.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"longshore.dev/kube-kit/shimspec"
)

func main() {
	// Network namespaces belong to threads: the one that joins must be the one that becomes the process.
	runtime.LockOSThread()
	if err := become(os.Args[1]); err != nil {
		// 128 is what container runtimes end with where the process could not be started.
		fmt.Fprintln(os.Stderr, "cannot start the container:", err)
		os.Exit(128)
	}
}

func become(text string) error {
	var spec shimspec.Spec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	if err := join(spec.Network); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := makeRoot(&spec); err != nil {
		return err
	}
	if err := os.Chdir(spec.WorkingDir); err != nil {
		return err
	}
	program, err := exec.LookPath(spec.Argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, spec.Argv, os.Environ())
}

func join(namespace string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}

// makeRoot mounts the overlay, makes it this process's root, and mounts the rest from inside, where no symbolic link, such
// as /var/run, leads back to the machine's own files.
func makeRoot(spec *shimspec.Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, folder := range []string{spec.Upper(), spec.Work(), spec.Merged()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	layers := "lowerdir=/,upperdir=" + spec.Upper() + ",workdir=" + spec.Work()
	if err := unix.Mount("overlay", spec.Merged(), "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	// What is mounted below the machine's root is no part of the overlay.
	var mounts []bind
	for _, path := range spec.Binds {
		mounts = append(mounts, bind{Volume: shimspec.Volume{From: path, At: path}})
	}
	for _, volume := range spec.Volumes {
		mounts = append(mounts, bind{Volume: volume})
	}
	// The machine's paths mean nothing inside: what is to be seen there is opened before.
	for i := range mounts {
		if err := mounts[i].open(); err != nil {
			return fmt.Errorf("%s: %w", mounts[i].From, err)
		}
	}
	if err := unix.Chroot(spec.Merged()); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	return fill(spec, mounts)
}

// fill mounts what the root is to have. Mount points are made while it can be written; a volume may be writable in a root
// that is not.
func fill(spec *shimspec.Spec, mounts []bind) error {
	for _, path := range spec.Empty {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, mount := range mounts {
		if err := mount.mountPoint(); err != nil {
			return fmt.Errorf("%s: %w", mount.At, err)
		}
		if err := mount.mount(); err != nil {
			return fmt.Errorf("%s: %w", mount.At, err)
		}
	}
	if spec.ReadOnlyRoot {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	return nil
}

// bind is a folder or a file of the machine that is to be seen inside.
type bind struct {
	shimspec.Volume
	fd  int
	dir bool
}

func (b *bind) open() error {
	info, err := os.Stat(b.From)
	if err != nil {
		return err
	}
	b.dir = info.IsDir()
	b.fd, err = unix.Open(b.From, unix.O_PATH|unix.O_CLOEXEC, 0)
	return err
}

// mountPoint makes a folder, or a file where a file is to be mounted.
func (b *bind) mountPoint() error {
	if b.dir {
		return os.MkdirAll(b.At, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(b.At), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(b.At, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

func (b *bind) mount() error {
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", b.fd), b.At, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !b.ReadOnly {
		return nil
	}
	return unix.Mount("", b.At, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}
