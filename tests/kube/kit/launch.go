package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"longshore.dev/kube-kit/shimspec"
)

// unknownImage is one that nothing stands for.
type unknownImage string

func (name unknownImage) Error() string {
	return fmt.Sprintf("nothing stands for the image %q", string(name))
}

// launch starts the container's process.
func (c *container) launch(ctx context.Context) error {
	image, known := c.w.k.images.find(c.spec.Image)
	if !known {
		return unknownImage(c.spec.Image)
	}
	command := c.spec.Command
	if len(command) == 0 {
		command = image.Command
	}
	if len(command) == 0 {
		return fmt.Errorf("neither the container nor what stands for %s has a command", c.spec.Image)
	}
	env, err := c.environment(ctx, image)
	if err != nil {
		return err
	}
	argv := []string{}
	for _, word := range slices.Concat(command, c.spec.Args) {
		argv = append(argv, expansion.Expand(word, expansion.MappingFuncFor(env)))
	}
	spec, err := c.shimSpec(image, argv)
	if err != nil {
		return err
	}
	return c.begin(spec, env)
}

func (c *container) shimSpec(image image, argv []string) (*shimspec.Spec, error) {
	w := c.w
	w.mu.Lock()
	network, volumes, life := w.net, w.volumes, c.restarts
	w.mu.Unlock()
	binds := slices.Concat(w.k.mounts, []string{w.k.o.at("shared")}, image.Shared)
	spec := &shimspec.Spec{
		Network:      network.path(),
		Layer:        w.k.o.at("layers", fmt.Sprintf("%s_%s_%d", filepath.Base(w.dir), c.spec.Name, life)),
		Binds:        binds,
		Empty:        image.Private,
		ReadOnlyRoot: c.spec.SecurityContext != nil && deref(c.spec.SecurityContext.ReadOnlyRootFilesystem),
		WorkingDir:   c.spec.WorkingDir,
		Argv:         argv,
	}
	if spec.WorkingDir == "" {
		spec.WorkingDir = "/"
	}
	for _, mount := range c.spec.VolumeMounts {
		path, ok := volumes[mount.Name]
		if !ok {
			return nil, fmt.Errorf("no volume %s", mount.Name)
		}
		from := filepath.Join(path, mount.SubPath)
		if _, err := os.Stat(from); err != nil {
			// A real kubelet makes the folder of a subPath that is not there.
			if err := os.MkdirAll(from, 0o777); err != nil {
				return nil, err
			}
		}
		spec.Volumes = append(spec.Volumes, shimspec.Volume{From: from, At: filepath.Clean(mount.MountPath), ReadOnly: mount.ReadOnly})
	}
	return spec, nil
}

// begin starts the shim, which becomes the process: the first of a process namespace, so that nothing of the container
// outlives it.
func (c *container) begin(spec *shimspec.Spec, env map[string]string) error {
	w := c.w
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := w.k.openLog(c.log())
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(filepath.Join(filepath.Dir(self), "shim"), string(text))
	process.Env = []string{}
	for name, value := range env {
		process.Env = append(process.Env, name+"="+value)
	}
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := c.start(process); err != nil {
		return err
	}
	return writePid(c.pidFile(), process.Process.Pid)
}

func deref(value *bool) bool { return value != nil && *value }
