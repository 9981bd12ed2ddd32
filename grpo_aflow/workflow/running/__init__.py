"""A checked workflow on a task: `interpret` runs it within its limits, without executing any Python."""
