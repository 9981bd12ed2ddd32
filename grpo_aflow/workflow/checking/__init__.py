"""From a policy's text to a `program.Workflow` or findings: parsing, repairs, the static rules. Begin with `check`."""
