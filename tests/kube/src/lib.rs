//! Whole-system tests on a real Kubernetes control plane, and what runs one on this machine.
