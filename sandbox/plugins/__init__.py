"""Stand-ins for the provider plugins random, postgresql and cloudflare, used where the real ones are not installed.

Each is a small gRPC provider that the Pulumi engine finds on PATH and that answers as the real plugin does. What it
accepts is read from the installed Python SDK of the real provider, so that it cannot accept what that one would not.
"""
