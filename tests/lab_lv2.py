"""LV2 plugins that misbehave in ways that a scan has to survive: one C file, compiled without LV2 headers."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {  /* lv2core's plugin descriptor */
    const char* uri;
    void* (*instantiate)(const void*, double, const char*, const void* const*);
    void (*connect)(void*, unsigned, void*);
    void (*activate)(void*);
    void (*run)(void*, unsigned);
    void (*deactivate)(void*);
    void (*cleanup)(void*);
    const void* (*extension)(const char*);
} Descriptor;

typedef struct { float* port[5]; float past[64]; unsigned at; } Lab;  /* in, out, gain, nothing, latency */

static void* make(const void* d, double rate, const char* path, const void* const* f)
{ (void)d; (void)rate; (void)path; (void)f; return calloc(1, sizeof(Lab)); }
static void* make_slow_only(const void* d, double rate, const char* path, const void* const* f)
{ return rate > 50000 ? NULL : make(d, rate, path, f); }
static void* make_crash(const void* d, double rate, const char* path, const void* const* f)
{ (void)d; (void)rate; (void)path; (void)f; *(volatile int*)8 = 1; return NULL; }
static void connect(void* h, unsigned i, void* p) { ((Lab*)h)->port[i] = p; }
static void run(void* h, unsigned n)
{ Lab* l = h; for (unsigned i = 0; i < n; ++i) l->port[1][i] = *l->port[2] * l->port[0][i]; }
static void run_late(void* h, unsigned n)
{
    Lab* l = h;
    *l->port[4] = 64;
    for (unsigned i = 0; i < n; ++i, l->at = (l->at + 1) % 64) {
        float past = l->past[l->at];
        l->past[l->at] = l->port[0][i];
        l->port[1][i] = *l->port[2] * past;
    }
}
static void run_hang(void* h, unsigned n) { (void)h; (void)n; for (volatile int i = 0;; ++i) {} }
static void run_crash(void* h, unsigned n) { (void)h; (void)n; abort(); }
static void run_nan(void* h, unsigned n) { run(h, n); ((Lab*)h)->port[1][0] = 0.0f / 0.0f; }
static void run_clock(void* h, unsigned n)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    run(h, n);
    ((Lab*)h)->port[1][0] = t.tv_nsec * 1e-9f;
}
static void run_meddle(void* h, unsigned n) { run(h, n); *((Lab*)h)->port[2] = 0.125f; }

#define PLUGIN(name, make, run) {"urn:dafxhost:lab:" name, make, connect, NULL, run, NULL, free, NULL}
static const Descriptor all[] = {
    PLUGIN("good", make, run), PLUGIN("late", make, run_late), PLUGIN("slow-only", make_slow_only, run),
    PLUGIN("crash-loading", make_crash, run), PLUGIN("crash", make, run_crash),
    PLUGIN("hang", make, run_hang), PLUGIN("nan", make, run_nan),
    PLUGIN("clock", make, run_clock), PLUGIN("meddle", make, run_meddle),
};
const Descriptor* lv2_descriptor(unsigned i) { return i < sizeof all / sizeof *all ? &all[i] : NULL; }
"""
NAMES = ("good", "late", "slow-only", "crash-loading", "hang", "crash", "nan", "clock", "meddle")

_PLUGIN = """
<urn:dafxhost:lab:{name}> a lv2:Plugin ; lv2:binary <lab.so> ; doap:name "Lab {name}" ; lv2:port
  [ a lv2:InputPort, lv2:AudioPort ; lv2:index 0 ; lv2:symbol "in" ; lv2:name "In" ],
  [ a lv2:OutputPort, lv2:AudioPort ; lv2:index 1 ; lv2:symbol "out" ; lv2:name "Out" ],
  [ a lv2:InputPort, lv2:ControlPort ; lv2:index 2 ; lv2:symbol "gain" ; lv2:name "Gain" ;
    lv2:default 0.5 ; lv2:minimum 0.0 ; lv2:maximum 1.0 ],
  [ a lv2:InputPort, lv2:ControlPort ; lv2:index 3 ; lv2:symbol "nothing" ; lv2:name "Nothing" ;
    lv2:portProperty lv2:toggled ; lv2:default 0 ; lv2:minimum 0 ; lv2:maximum 1 ],
  [ a lv2:OutputPort, lv2:ControlPort ; lv2:index 4 ; lv2:symbol "latency" ; lv2:name "Latency" ;
    lv2:portProperty lv2:reportsLatency ] .
"""


def build(folder: Path) -> Path:
    """Bundle `folder`/lab.lv2 with all of `NAMES`."""
    bundle = folder / "lab.lv2"
    bundle.mkdir(parents=True)
    (folder / "lab.c").write_text(SOURCE)
    command = ["gcc", "-O1", "-shared", "-fPIC", str(folder / "lab.c"), "-o", str(bundle / "lab.so")]
    subprocess.run(command, check=True, timeout=60)
    prefixes = (
        "@prefix lv2: <http://lv2plug.in/ns/lv2core#> .\n@prefix doap: <http://usefulinc.com/ns/doap#> .\n"
    )
    text = prefixes + "".join(_PLUGIN.format(name=name) for name in NAMES)
    (bundle / "manifest.ttl").write_text(text)
    return bundle
