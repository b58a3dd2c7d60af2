"""The dashboard: pages, charts as SVG, and what they ask of the history. It never evaluates."""
