//! Process plumbing: admin server, readiness, shutdown, telemetry.
