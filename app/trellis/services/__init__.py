"""Use cases: permission, one transaction, one decision; shared by HTTP and workers."""
