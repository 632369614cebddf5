// What DPF is told about the lab plugin: one channel, no window, so that it needs neither X nor a UI library.
#pragma once

#define DISTRHO_PLUGIN_BRAND "dafxhost lab"
#define DISTRHO_PLUGIN_NAME "LabFault"
#define DISTRHO_PLUGIN_URI "urn:dafxhost:lab-fault"
#define DISTRHO_PLUGIN_NUM_INPUTS 1
#define DISTRHO_PLUGIN_NUM_OUTPUTS 1
#define DISTRHO_PLUGIN_HAS_UI 0
#define DISTRHO_PLUGIN_IS_RT_SAFE 0
#define DISTRHO_PLUGIN_WANT_LATENCY 1
#define DISTRHO_PLUGIN_WANT_PARAMETER_VALUE_CHANGE_REQUEST 1
