"""Pictures and figures by which an encoder, or the encoder of a run, is judged: `dafxhost analyze`.

`subjects` finds what is analysed, `observing` makes and embeds the clips, `projections`, `probes` and
`latents` measure, `plots` and `canvas` draw, `report` puts it together. Nothing heavy is imported before it
is used; the extra packages come with ``pip install "dafxhost[analysis]"``.
"""
