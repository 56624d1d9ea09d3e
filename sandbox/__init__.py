"""The sandbox: a real PostgreSQL and the real Pulumi engine on one machine, with no account and no server."""
