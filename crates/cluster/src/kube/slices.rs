//! The EndpointSlices and the Service that a route should look like. Pure.
