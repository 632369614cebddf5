// A gain with as many inputs and outputs as it is built with; inputs past the outputs are a side chain.
#include "DistrhoPlugin.hpp"

START_NAMESPACE_DISTRHO

class Part : public Plugin
{
public:
    Part() : Plugin(1, 0, 0) {}

protected:
    const char* getLabel() const override { return PART_NAME; }
    const char* getMaker() const override { return "dafxhost"; }
    const char* getLicense() const override { return "GPL-3.0-or-later"; }
    uint32_t getVersion() const override { return d_version(1, 0, 0); }
    int64_t getUniqueId() const override { return PART_ID; }

    void initAudioPort(const bool input, const uint32_t index, AudioPort& port) override
    {
        Plugin::initAudioPort(input, index, port);
        if (input && index >= PART_OUTPUTS)
            port.hints = kAudioPortIsSidechain;
        else
            port.groupId = PART_OUTPUTS == 2 ? kPortGroupStereo : kPortGroupMono;
    }

    void initParameter(uint32_t, Parameter& parameter) override
    {
        parameter.hints = kParameterIsAutomatable;
        parameter.name = "Gain " PART_NAME;
        parameter.symbol = "gain";
        parameter.ranges = ParameterRanges(0.5f, 0.0f, 1.0f);
    }

    float getParameterValue(uint32_t) const override { return fGain; }
    void setParameterValue(uint32_t, const float value) override { fGain = value; }

    void run(const float** const inputs, float** const outputs, const uint32_t frames) override
    {
        for (uint32_t c = 0; c < PART_OUTPUTS; ++c)
            for (uint32_t i = 0; i < frames; ++i)
                outputs[c][i] = fGain * inputs[c][i];
    }

private:
    float fGain = 0.5f;
};

Plugin* createPlugin()
{
    return new Part();
}

END_NAMESPACE_DISTRHO
