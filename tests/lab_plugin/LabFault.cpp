// A VST3 effect that misbehaves on demand, for the tests of the executor; built by lab_plugin_build.py.
//
// "Gain" multiplies. "Fault" says what it does wrong in the first block that it processes with that value.
// What it does wrong when it is loaded, its latency, and whether it misbehaves once only, stand in a file
// "lab.conf" in the bundle (lines "key=value"), so that one build serves all variants:
//   load=refuse | crash | display | slow      slow: sleeps `seconds` each time an instance is made
//   latency=SAMPLES                           delays by as many samples and reports it to the host
//   once=PATH                                 misbehaves only if it can create that file
#include "DistrhoPlugin.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

namespace {

// The choices of "Fault", in the order of Fault.
const char* const kFaults[] = {
    "none",  "segfault", "abort",  "throw",  "stack", "_exit",       "exit",  "loop", "sleep", "nan", "inf",
    "huge",  "leak",     "flood",  "thread", "late",  "self-change", "noise", "fork", "chdir", "signals",
    "close",
};
enum Fault {
    None, Segfault, Abort, Throw, Stack, QuickExit, Exit, Loop, Sleep, Nan, Inf,
    Huge, Leak, Flood, Thread, Late, SelfChange, Noise, Fork, Directory, Signals,
    Close, kFaultCount,
};
static_assert(sizeof(kFaults) / sizeof(*kFaults) == kFaultCount, "a name for every fault");

constexpr size_t kLeakBytes = 10u << 20;  // a render
constexpr int kFloodLines = 20000;        // a render, each on stdout and stderr
constexpr float kSelfChangedGain = 0.125f;
const char kHere = 0;   // an address in this library
volatile int gSink = 0;  // this and the next keep the compiler from removing what has no other effect
void* volatile gLost;

// Value of a key in the bundle's lab.conf, or "".
std::string configured(const std::string& key)
{
    Dl_info info;
    if (! dladdr(&kHere, &info) || info.dli_fname == nullptr)
        return "";
    std::string folder(info.dli_fname);
    for (int up = 0; up < 3; ++up)  // Contents/<machine>-linux/LabFault.so
        folder.erase(std::min(folder.rfind('/'), folder.size()));
    std::ifstream file(folder + "/lab.conf");
    for (std::string line; std::getline(file, line);)
        if (line.compare(0, key.size() + 1, key + "=") == 0)
            return line.substr(key.size() + 1);
    return "";
}

float wallClockNoise()
{
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return 1.0f + 1e-6f * static_cast<float>(now.tv_nsec);
}

void segfault()
{
    volatile int* nowhere = reinterpret_cast<volatile int*>(8);
    gSink = *nowhere;
}

// Recursion without an end (gSink is never negative) that is no tail call.
int eatStack(int depth)
{
    if (gSink < 0)
        return 0;
    volatile char frame[4096];
    frame[depth & 4095] = static_cast<char>(depth);
    gSink = depth;
    const int deeper = eatStack(depth + 1);
    return deeper + frame[(deeper + depth) & 4095];
}

void* runOn(void*)
{
    for (;;)
        usleep(1000);
}

void* crashLater(void*)
{
    usleep(50 * 1000);
    segfault();
    return nullptr;
}

void leaveThread(void* (*body)(void*))
{
    pthread_t thread;
    if (pthread_create(&thread, nullptr, body, nullptr) == 0)
        pthread_detach(thread);
}

}  // namespace

START_NAMESPACE_DISTRHO

class LabFault : public Plugin
{
public:
    LabFault() : Plugin(2, 0, 0)
    {
        const std::string load = configured("load");
        if (load == "crash")
            segfault();
        if (load == "slow")
            usleep(static_cast<useconds_t>(1e6 * std::atof(configured("seconds").c_str())));
        if (load == "display" && std::getenv("DISPLAY") == nullptr) {
            std::fputs("LabFault: cannot open display\n", stderr);
            _exit(1);  // what programs written for X do
        }
        fDelay.resize(static_cast<size_t>(std::atoi(configured("latency").c_str())));
        setLatency(static_cast<uint32_t>(fDelay.size()));
        fOnce = configured("once");
    }

protected:
    const char* getLabel() const override { return "LabFault"; }
    const char* getMaker() const override { return "dafxhost"; }
    const char* getLicense() const override { return "GPL-3.0-or-later"; }
    uint32_t getVersion() const override { return d_version(1, 0, 0); }
    int64_t getUniqueId() const override { return d_cconst('d', 'L', 'a', 'b'); }

    void initParameter(const uint32_t index, Parameter& parameter) override
    {
        parameter.hints = kParameterIsAutomatable;
        if (index == 0) {
            parameter.name = "Gain";
            parameter.symbol = "gain";
            parameter.ranges = ParameterRanges(0.5f, 0.0f, 1.0f);
            return;
        }
        parameter.hints |= kParameterIsInteger;
        parameter.name = "Fault";
        parameter.symbol = "fault";
        parameter.ranges = ParameterRanges(0.0f, 0.0f, kFaultCount - 1);
        ParameterEnumerationValue* const values = new ParameterEnumerationValue[kFaultCount];
        for (int i = 0; i < kFaultCount; ++i) {
            values[i].value = static_cast<float>(i);
            values[i].label = kFaults[i];
        }
        parameter.enumValues.count = kFaultCount;
        parameter.enumValues.restrictedMode = true;
        parameter.enumValues.values = values;
    }

    float getParameterValue(const uint32_t index) const override
    {
        return index == 0 ? fGain : static_cast<float>(fFault);
    }

    void setParameterValue(const uint32_t index, const float value) override
    {
        if (index == 0)
            fGain = value;
        else {
            fFault = static_cast<int>(value + 0.5f);
            fDue = true;
        }
    }

    void activate() override
    {
        std::fill(fDelay.begin(), fDelay.end(), 0.0f);
        fPosition = 0;
        fDue = true;
    }

    void run(const float** const inputs, float** const outputs, const uint32_t frames) override
    {
        // Hosts may warm a plugin up with an empty block; that is no render.
        const bool now = fDue && fFault != None && frames != 0 && mayMisbehave();
        if (now) {
            fDue = false;
            misbehave();
        }
        for (uint32_t i = 0; i < frames; ++i)
            outputs[0][i] = fGain * delayed(inputs[0][i]);
        if (now)
            spoil(outputs[0], frames);
    }

private:
    float delayed(const float sample)
    {
        if (fDelay.empty())
            return sample;
        const float before = fDelay[fPosition];
        fDelay[fPosition] = sample;
        fPosition = (fPosition + 1) % fDelay.size();
        return before;
    }

    bool mayMisbehave() const
    {
        if (fOnce.empty())
            return true;
        const int file = open(fOnce.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (file >= 0)
            close(file);
        return file >= 0;
    }

    // What is wrong with the output.
    void spoil(float* const out, const uint32_t frames) const
    {
        switch (fFault) {
        case Nan: out[frames / 2] = std::numeric_limits<float>::quiet_NaN(); break;
        case Inf: out[frames / 2] = -std::numeric_limits<float>::infinity(); break;
        case Huge: out[frames / 2] = 1e30f; break;
        case Noise: out[frames / 2] += wallClockNoise(); break;
        default: break;
        }
    }

    // What is wrong besides.
    void misbehave()
    {
        switch (fFault) {
        case Segfault: segfault(); break;
        case Abort: std::abort();
        case Throw: throw std::runtime_error("the lab threw this");
        case Stack: gSink = eatStack(0); break;
        case QuickExit: _exit(3);
        case Exit: std::exit(3);
        case Loop:
            for (;;)
                gSink = gSink + 1;
        case Sleep: sleep(1000); break;
        case Leak: {
            void* const lost = std::malloc(kLeakBytes);
            std::memset(lost, 1, kLeakBytes);  // touched: it takes memory, not only addresses
            gLost = lost;
            break;
        }
        case Flood:
            for (int i = 0; i < kFloodLines; ++i) {
                std::fputs("a line of noise, again and again\n", stdout);
                std::fputs("a line of noise, again and again\n", stderr);
            }
            std::fflush(stdout);
            break;
        case Thread: leaveThread(runOn); break;
        case Late: leaveThread(crashLater); break;
        case SelfChange:
            fGain = kSelfChangedGain;
            requestParameterValueChange(0, fGain);
            break;
        case Fork:
            if (fork() == 0)
                for (;;)
                    pause();
            break;
        case Directory:
            if (chdir("/proc") != 0)
                std::abort();
            break;
        case Signals:
            for (const int number : {SIGTERM, SIGCHLD, SIGHUP, SIGINT})
                std::signal(number, SIG_IGN);
            break;
        case Close:
            for (int descriptor = 0; descriptor < 256; ++descriptor)
                close(descriptor);
            break;
        default: break;
        }
    }

    float fGain = 0.5f;
    int fFault = None;
    bool fDue = true;  // the fault has not been committed since the last activation or choice
    std::vector<float> fDelay;
    size_t fPosition = 0;
    std::string fOnce;

    DISTRHO_DECLARE_NON_COPYABLE_WITH_LEAK_DETECTOR(LabFault)
};

Plugin* createPlugin()
{
    return new LabFault();
}

END_NAMESPACE_DISTRHO

// DPF's own factory is renamed on the command line, so that this one can refuse.
#undef GetPluginFactory
DISTRHO_PLUGIN_EXPORT const void* DpfPluginFactory(void);
DISTRHO_PLUGIN_EXPORT const void* GetPluginFactory(void);

const void* GetPluginFactory(void)
{
    return configured("load") == "refuse" ? nullptr : DpfPluginFactory();
}
