"""Images in: sources read them, order decides which come when, augment prepares them on the
device."""
