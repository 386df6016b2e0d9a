"""What many scopes need: measured costs, a plan for any number of scopes, and a simulation of the relay."""
