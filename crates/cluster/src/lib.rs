//! Where facts come from and effects go: the local driver and the fleet API.
