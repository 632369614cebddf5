"""The trackers that come with dafxhost. Each imports its service's package when it is made."""
