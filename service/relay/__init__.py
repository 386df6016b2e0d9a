"""Live results of several scopes for many viewers, through a NATS server; off by default."""
