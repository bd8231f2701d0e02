"""The ground floor: errors, files, rows, downloads and devices. Nothing of ours above it is imported here."""
