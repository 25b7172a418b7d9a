// The parts of a CUDA device that are not kernels: its number, memory, generators, and what torch asks a driver for.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace emulated {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;

constexpr DeviceType GPU = DeviceType::CUDA;
constexpr c10::DispatchKey KEY = c10::DispatchKey::CUDA;
constexpr DeviceIndex MOST_DEVICES = 8;

inline DeviceIndex device_count = 2;
inline thread_local DeviceIndex current = 0;

inline Device indexed(Device d) { return d.has_index() ? d : Device(d.type(), current); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return GPU; }
  Device exchangeDevice(Device d) const override {
    auto old = getDevice();
    uncheckedSetDevice(d);
    return old;
  }
  Device getDevice() const override { return Device(GPU, current); }
  void setDevice(Device d) const override { uncheckedSetDevice(d); }
  void uncheckedSetDevice(Device d) const noexcept override {
    if (d.has_index()) current = d.index();
  }
  c10::Stream getStream(Device d) const override { return c10::Stream(c10::Stream::DEFAULT, indexed(d)); }
  c10::Stream getDefaultStream(Device d) const override { return getStream(d); }
  c10::Stream exchangeStream(c10::Stream s) const override { return getStream(s.device()); }
  DeviceIndex deviceCount() const noexcept override { return device_count; }
  void record(void**, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  void synchronizeDevice(const DeviceIndex) const override {}
};

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* p = nullptr;
    TORCH_CHECK(!bytes || !posix_memalign(&p, 64, bytes), "out of memory");
    return {p, p, &::free, Device(GPU, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &::free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};
inline Memory memory;

// Draws as the CPU's generator does, and says that it is the device's.
struct Generator final : c10::GeneratorImpl {
  at::Generator cpu = at::detail::createCPUGenerator();
  explicit Generator(Device d) : c10::GeneratorImpl(d, c10::DispatchKeySet(KEY)) {}
  void set_current_seed(uint64_t seed) override { cpu.set_current_seed(seed); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return cpu.current_seed(); }
  uint64_t seed() override { return cpu.seed(); }
  void set_state(const c10::TensorImpl& state) override { cpu.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return cpu.unsafeGetGeneratorImpl()->get_state(); }
  Generator* clone_impl() const override {
    auto* copy = new Generator(device());
    copy->cpu = cpu.clone();
    return copy;
  }
};
inline std::vector<at::Generator> generators;

struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  const at::Generator& getDefaultGenerator(DeviceIndex i) const override { return generators.at(i < 0 ? current : i); }
  at::Generator getNewGenerator(DeviceIndex i) const override {
    return at::make_generator<Generator>(Device(GPU, i < 0 ? current : i));
  }
  Device getDeviceFromPtr(void*) const override { return Device(GPU, current); }
  bool isPinnedPtr(const void*) const override { return false; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  long versionCuDNN() const override { return 92400; }
  long versionRuntimeCuDNN() const override { return 92400; }
  double batchnormMinEpsilonCuDNN() const override { return 0.0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return device_count; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex d) const override { current = d; }
  DeviceIndex exchangeDevice(DeviceIndex d) const override { return std::exchange(current, d); }
  DeviceIndex maybeExchangeDevice(DeviceIndex d) const override { return exchangeDevice(d); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  c10::Allocator* getCUDADeviceAllocator() const override { return &memory; }
  int getNumGPUs() const override { return device_count; }
  void deviceSynchronize(DeviceIndex) const override {}
};

// ---- what the host waits for -----------------------------------------------------------------------------------------
inline std::atomic<long> launch_count{0};
inline std::atomic<bool> is_watched{false};
inline bool refuses_double = false;  // as MPS does
inline py::object* watcher = nullptr;  // called with what was waited for

inline void waits(const std::string& what) {
  if (!is_watched) return;
  py::gil_scoped_acquire gil;
  (*watcher)(what);
}

inline void check_dtype(c10::ScalarType type, const char* name) {
  TORCH_CHECK_TYPE(!refuses_double || (type != at::kDouble && type != at::kComplexDouble),
                   "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please "
                   "use float32 instead. (", name, ")");
}

}  // namespace emulated
