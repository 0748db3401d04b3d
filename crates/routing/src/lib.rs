//! Model name to engine: the routing table and the pick.
