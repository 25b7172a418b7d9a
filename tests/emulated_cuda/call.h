// The arguments and results of a call: one memory, seen as a tensor of the device or of the CPU.
#pragma once

#include "device.h"

#include <optional>

namespace emulated {

inline c10::Storage shared(const c10::Storage& storage, Device device) {
  auto* kept = new c10::Storage(storage);
  auto release = [](void* p) { delete static_cast<c10::Storage*>(p); };
  auto* allocator = device.type() == GPU ? static_cast<c10::Allocator*>(&memory) : c10::GetCPUAllocator();
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(),
                      c10::DataPtr(const_cast<void*>(storage.data()), kept, release, device), allocator, true);
}

inline Tensor laid_out(c10::Storage storage, const Tensor& like, c10::DispatchKey key) {
  Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  t.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides());
  t.unsafeGetTensorImpl()->set_storage_offset(like.storage_offset());
  if (like.is_conj()) t._set_conj(true);
  if (like.is_neg()) t._set_neg(true);
  return t;
}

struct Call {
  std::map<c10::StorageImpl*, c10::Storage> there;  // the device's storage -> the CPU's of the same memory
  std::map<c10::StorageImpl*, Tensor> back;         // the CPU's storage -> a tensor of the device with it
  std::map<c10::TensorImpl*, Tensor> given;         // a CPU tensor -> the tensor of the device that it stands for
  std::vector<Tensor> made;
  std::set<std::string> devices;
  std::optional<Device> device;
  bool has_cpu_scalar = false, has_cpu_tensor = false;

  Tensor to_cpu(const Tensor& t) {
    if (!t.defined() || t.device().type() != GPU) {
      if (t.defined() && t.device().type() == DeviceType::CPU && !t.unsafeGetTensorImpl()->is_wrapped_number())
        (t.dim() ? has_cpu_tensor : has_cpu_scalar) = true;
      return t;
    }
    TORCH_CHECK(t.layout() == c10::kStrided, "the emulated device has strided tensors only");
    devices.insert(t.device().str());
    device = t.device();
    auto* impl = t.storage().unsafeGetStorageImpl();
    auto it = there.find(impl);
    if (it == there.end()) it = there.emplace(impl, shared(t.storage(), Device(DeviceType::CPU))).first;
    Tensor cpu = laid_out(it->second, t, c10::DispatchKey::CPU);
    back[it->second.unsafeGetStorageImpl()] = t;
    given[cpu.unsafeGetTensorImpl()] = t;
    made.push_back(cpu);
    return cpu;
  }

  Tensor to_gpu(const Tensor& r, Device d) {
    if (!r.defined() || r.device().type() != DeviceType::CPU) return r;
    auto same = given.find(r.unsafeGetTensorImpl());
    if (same != given.end()) return same->second;
    auto known = back.find(r.storage().unsafeGetStorageImpl());
    return laid_out(known == back.end() ? shared(r.storage(), d) : known->second.storage(), r, KEY);
  }

  void follow_resizes() {  // outputs that were empty have been given memory
    for (auto& cpu : made) {
      auto* gpu = given[cpu.unsafeGetTensorImpl()].unsafeGetTensorImpl();
      const auto& mine = there.find(gpu->storage().unsafeGetStorageImpl());
      bool has_moved = mine == there.end() ||
                       mine->second.unsafeGetStorageImpl() != cpu.storage().unsafeGetStorageImpl() ||
                       cpu.storage().data() != gpu->storage().data() || cpu.storage().nbytes() != gpu->storage().nbytes();
      if (has_moved) gpu->set_storage_keep_dtype(shared(cpu.storage(), gpu->device()));
      if (has_moved || cpu.sizes() != gpu->sizes() || cpu.strides() != gpu->strides()) {
        gpu->set_sizes_and_strides(cpu.sizes(), cpu.strides());
        gpu->set_storage_offset(cpu.storage_offset());
      }
    }
  }

  void check_devices(const std::string& name, bool takes_cpu_scalars) {
    const std::string told = "Expected all tensors to be on the same device, but found at least two devices, ";
    TORCH_CHECK(devices.size() < 2, told, *devices.begin(), " and ", *devices.rbegin(), "! (", name, ")");
    bool is_mixed = device && (has_cpu_tensor || (has_cpu_scalar && !takes_cpu_scalars));
    TORCH_CHECK(!is_mixed, told, device ? device->str() : "", " and cpu! (", name, ")");
  }
};

}  // namespace emulated
