"""Writers of files that tests read: one format or collection each."""
