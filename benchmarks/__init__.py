"""`make bench`: how fast the service is, always against something else on the same machine in the same minute."""
