"""Published methods of root cause analysis, called in their own libraries, on the episodes of the fault benchmark."""
