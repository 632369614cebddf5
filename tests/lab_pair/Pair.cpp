// A VST3 library whose factory offers the classes of two others, which lie beside it: a file of two plugins.
#include <cstdint>
#include <cstring>
#include <string>

#include <dlfcn.h>

#include "travesty/factory.h"

namespace {

// As hosts call it: a table of functions, of which each gets the object.
struct Factory {
    v3_result(V3_API* query)(void*, const v3_tuid, void**);
    uint32_t(V3_API* ref)(void*);
    uint32_t(V3_API* unref)(void*);
    v3_plugin_factory calls;
};

Factory** gParts[2];
const char kHere = 0;

v3_result V3_API query(void* self, const v3_tuid iid, void** out)
{
    if (! v3_tuid_match(iid, v3_funknown_iid) && ! v3_tuid_match(iid, v3_plugin_factory_iid)) {
        *out = nullptr;
        return V3_NO_INTERFACE;
    }
    *out = self;
    return V3_OK;
}
uint32_t V3_API count(void*) { return 1; }
v3_result V3_API info(void*, v3_factory_info* out) { return (*gParts[0])->calls.get_factory_info(gParts[0], out); }
int32_t V3_API classes(void*)
{
    return (*gParts[0])->calls.num_classes(gParts[0]) + (*gParts[1])->calls.num_classes(gParts[1]);
}
v3_result V3_API describe(void*, const int32_t index, v3_class_info* out)
{
    const int32_t first = (*gParts[0])->calls.num_classes(gParts[0]);
    Factory** const part = gParts[index >= first];
    return (*part)->calls.get_class_info(part, index >= first ? index - first : index, out);
}
v3_result V3_API create(void*, const v3_tuid id, const v3_tuid iid, void** out)
{
    const v3_result done = (*gParts[0])->calls.create_instance(gParts[0], id, iid, out);
    return done == V3_OK ? done : (*gParts[1])->calls.create_instance(gParts[1], id, iid, out);
}

Factory gFactory = {query, count, count, {info, classes, describe, create}};
Factory* gObject = &gFactory;

}  // namespace

extern "C" {

__attribute__((visibility("default"))) bool ModuleEntry(void*)
{
    Dl_info here;
    if (! dladdr(&kHere, &here))
        return false;
    std::string folder(here.dli_fname);
    folder.erase(folder.rfind('/') + 1);
    for (int i = 0; i < 2; ++i) {
        void* const library = dlopen((folder + (i ? "b.part" : "a.part")).c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr)
            return false;
        reinterpret_cast<bool (*)(void*)>(dlsym(library, "ModuleEntry"))(library);
        gParts[i] = reinterpret_cast<Factory** (*)()>(dlsym(library, "GetPluginFactory"))();
    }
    return true;
}
__attribute__((visibility("default"))) bool ModuleExit() { return true; }
__attribute__((visibility("default"))) const void* GetPluginFactory() { return &gObject; }
}
