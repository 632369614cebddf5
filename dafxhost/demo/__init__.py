"""The demo: a page in the browser to match recordings, turn an effect's knobs and hear it.

`studio.py` does the work and knows no Gradio; `sessions.py` keeps users apart; `executors.py` keeps plugins
warm; `knobs.py` and `settings_map.py` say what is shown;
`app.py` lays it out; `server.py` serves it and ends it.
"""
