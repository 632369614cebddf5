"""Reports: self-contained HTML pages that work offline, on a phone, in light and dark, and by keyboard."""
