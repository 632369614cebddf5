// What DPF is told about a part of the lab's pair; lab_pair_build.py defines the PART_ macros.
#pragma once

#define DISTRHO_PLUGIN_BRAND "dafxhost lab"
#define DISTRHO_PLUGIN_NAME PART_NAME
#define DISTRHO_PLUGIN_URI "urn:dafxhost:lab-" PART_NAME
#define DISTRHO_PLUGIN_NUM_INPUTS PART_INPUTS
#define DISTRHO_PLUGIN_NUM_OUTPUTS PART_OUTPUTS
#define DISTRHO_PLUGIN_HAS_UI 0
#define DISTRHO_PLUGIN_IS_RT_SAFE 1
