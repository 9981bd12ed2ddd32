"""What the graders must withstand: `quick` at the start of every run, `full` over the whole benchmark files."""
