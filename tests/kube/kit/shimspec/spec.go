// Package shimspec is what the kubelet tells the shim about one container.
package shimspec

import "path/filepath"

// Spec of one start of a container. All paths are absolute.
type Spec struct {
	// The pod's network namespace.
	Network string
	// A folder of this start's own, on a file system that is not the machine's root.
	Layer string
	// What of the machine is seen live under its own path.
	Binds []string
	// Folders that are empty and the container's own.
	Empty        []string
	Volumes      []Volume
	ReadOnlyRoot bool
	WorkingDir   string
	Argv         []string
}

// Volume is a folder or a file of the machine at a path of the container.
type Volume struct {
	From, At string
	ReadOnly bool
}

// Upper holds what the container writes.
func (s *Spec) Upper() string { return filepath.Join(s.Layer, "upper") }

// Work is the overlay's own.
func (s *Spec) Work() string { return filepath.Join(s.Layer, "work") }

// Merged is what the container sees as its root.
func (s *Spec) Merged() string { return filepath.Join(s.Layer, "merged") }
