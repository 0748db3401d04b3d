//! Who leads: a Lease, and the time until which this process may act.
