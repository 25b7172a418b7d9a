// Kernels of the emulated device: every aten kernel of the CUDA dispatch key runs the CPU's kernel on the same memory.
#include "call.h"

#include <mutex>
#include <unordered_set>

namespace emulated {

using c10::IValue;
using Stack = torch::jit::Stack;

// ---- any kernel ---------------------------------------------------------------------------------------------------------
// Operations of which CUDA takes a whole CPU tensor, the indices, beside its own; they are copied, and the host waits.
const std::set<std::string> TAKE_CPU_INDICES = {
    "aten::index.Tensor", "aten::index.Tensor_out", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_",
    "aten::_unsafe_index.Tensor", "aten::_unsafe_index_put"};
// Those whose result has a size that is known on the device only, or is read on the host.
const std::set<std::string> ARE_READ = {
    "aten::nonzero", "aten::nonzero.out", "aten::masked_select", "aten::masked_select.out", "aten::_unique2",
    "aten::_unique", "aten::unique_dim", "aten::unique_consecutive", "aten::unique_dim_consecutive", "aten::bincount",
    "aten::repeat_interleave.Tensor", "aten::equal", "aten::_linalg_check_errors", "aten::histc",
    "aten::_is_all_true", "aten::_is_any_true", "aten::allclose"};
// Those that take no CPU scalar beside their own tensors.
const std::set<std::string> TAKE_NO_CPU_SCALARS = {"aten::stack", "aten::cat", "aten::index_select", "aten::gather",
                                                   "aten::mm",    "aten::dot"};

std::mutex random_mutex;

void call_cpu(const c10::OperatorHandle& op, Stack* stack) {
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
}

// Runs a kernel that draws from the CPU's default generator with the state of the device's.
void call_cpu_with_noise(const c10::OperatorHandle& op, Stack* stack, Device device) {
  std::lock_guard<std::mutex> lock(random_mutex);
  auto cpu = at::globalContext().defaultGenerator(Device(DeviceType::CPU));
  auto gpu = generators.at(device.index());
  auto saved = cpu.get_state();
  cpu.set_state(gpu.get_state());
  try {
    call_cpu(op, stack);
  } catch (...) {
    cpu.set_state(saved);
    throw;
  }
  gpu.set_state(cpu.get_state());
  cpu.set_state(saved);
}

void run_on_cpu(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const auto name = schema.name() + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
  const auto begin = stack->size() - schema.arguments().size();
  const std::vector<IValue> originals(stack->begin() + begin, stack->end());
  Call call;
  std::optional<Device> asked;
  bool has_mask = false, has_cpu_index = false, has_gpu_index = false;
  for (size_t i = 0; i < originals.size(); ++i) {
    IValue& v = (*stack)[begin + i];
    if (v.isTensor()) {
      v = IValue(call.to_cpu(v.toTensor()));
    } else if (v.isTensorList()) {
      std::vector<Tensor> tensors;
      for (const Tensor& t : v.toTensorVector()) tensors.push_back(call.to_cpu(t));
      v = IValue(c10::List<Tensor>(tensors));
    } else if (v.isOptionalTensorList()) {  // indices
      c10::List<std::optional<Tensor>> tensors;
      for (const std::optional<Tensor>& t : v.toOptionalTensorList()) {
        const bool is_there = t && t->defined();
        has_mask |= is_there && (t->scalar_type() == at::kBool || t->scalar_type() == at::kByte);
        has_gpu_index |= is_there && t->device().type() == GPU;
        has_cpu_index |= is_there && t->device().type() != GPU;
        tensors.push_back(is_there && t->device().type() == GPU ? call.to_cpu(*t) : t);
      }
      v = IValue(tensors);
    } else if (v.isDevice()) {
      asked = indexed(v.toDevice());
      v = IValue(Device(DeviceType::CPU));
    } else if (v.isGenerator()) {
      auto generator = v.toGenerator();
      TORCH_CHECK(generator.device().type() == GPU, "Expected a 'cuda' device type for generator but found '",
                  generator.device().str(), "'");
      v = IValue(static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->cpu);
    }
  }
  const bool is_indexed = TAKE_CPU_INDICES.count(name) > 0;
  TORCH_CHECK(!(is_indexed && originals[0].toTensor().device().type() == DeviceType::CPU && has_gpu_index),
              "indices should be either on cpu or on the same device as the indexed tensor (cpu) (", name, ")");
  call.check_devices(name, !TAKE_NO_CPU_SCALARS.count(name));
  const Device d = call.device ? *call.device : asked ? *asked : Device(GPU, current);
  launch_count++;
  if (ARE_READ.count(name)) waits(name);
  if (is_indexed && has_mask) waits(name + " by a mask");
  if (is_indexed && has_cpu_index) waits(name + " by indices on the CPU");

  op.hasTag(at::Tag::nondeterministic_seeded) ? call_cpu_with_noise(op, stack, d) : call_cpu(op, stack);
  call.follow_resizes();

  const auto out = stack->size() - schema.returns().size();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    IValue& v = (*stack)[out + i];
    const auto* alias = schema.returns()[i].alias_info();
    if (alias && alias->isWrite()) {
      for (size_t a = 0; a < originals.size(); ++a) {
        const auto* theirs = schema.arguments()[a].alias_info();
        if (theirs && *theirs == *alias) { v = originals[a]; break; }
      }
    } else if (v.isTensor()) {
      v = IValue(call.to_gpu(v.toTensor(), d));
    } else if (v.isTensorList()) {
      std::vector<Tensor> tensors;
      for (const Tensor& t : v.toTensorVector()) tensors.push_back(call.to_gpu(t, d));
      v = IValue(c10::List<Tensor>(tensors));
    }
    if (v.isTensor() && v.toTensor().defined()) check_dtype(v.toTensor().scalar_type(), name.c_str());
  }
}

// ---- kernels that make memory or leave the device -----------------------------------------------------------------------
Tensor empty_strided(c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  auto size = C10_AS_INTARRAYREF_SLOW(sizes);
  auto stride = C10_AS_INTARRAYREF_SLOW(strides);
  auto type = dtype.value_or(c10::get_default_dtype_as_scalartype());
  check_dtype(type, "empty");
  Device d = indexed(device.value_or(Device(GPU)));
  TORCH_CHECK(d.index() < device_count, "CUDA error: invalid device ordinal");
  auto old = std::exchange(current, d.index());
  auto bytes = at::detail::computeStorageNbytes(size, stride, c10::elementSize(type));
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, memory.allocate(bytes), &memory, true);
  current = old;
  Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(KEY),
                                                      c10::scalarTypeToTypeMeta(type));
  t.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride);
  return t;
}

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
             std::optional<Device> device, std::optional<bool> pin, std::optional<at::MemoryFormat> format) {
  auto type = dtype.value_or(c10::get_default_dtype_as_scalartype());
  auto meta = at::empty(C10_AS_INTARRAYREF_SLOW(size), at::TensorOptions().dtype(type).device(at::kMeta), format);
  return empty_strided(size, c10::fromIntArrayRefSlow(meta.strides()), dtype, layout, device, pin);
}

Tensor on_cpu(const Tensor& t) { return Call().to_cpu(t); }

Tensor& copy_(Tensor& self, const Tensor& src, bool non_blocking) {
  if (self.is_same(src)) return self;
  launch_count++;
  const bool to_gpu = self.device().type() == GPU, from_gpu = src.device().type() == GPU;
  if (src.numel() && from_gpu && !to_gpu) waits("copy from the device");
  if (src.numel() && to_gpu && !from_gpu && !non_blocking) waits("copy to the device");
  at::NoGradGuard no_grad;
  on_cpu(self).copy_(on_cpu(src));
  return self;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  Tensor target = to;
  return target.resize_(self.sizes()).copy_(self);
}

c10::Scalar local_scalar_dense(const Tensor& self) {
  waits("item");
  return at::_local_scalar_dense(on_cpu(self));
}

const Tensor& resize_(const Tensor& self, c10::SymIntArrayRef sizes, std::optional<at::MemoryFormat>) {
  auto size = C10_AS_INTARRAYREF_SLOW(sizes);
  size_t bytes = (c10::multiply_integers(size) + self.storage_offset()) * self.element_size();
  if (bytes > self.storage().nbytes()) {
    auto fresh = memory.allocate(bytes);
    if (self.storage().nbytes()) std::memcpy(fresh.mutable_get(), self.storage().data(), self.storage().nbytes());
    auto* storage = self.storage().unsafeGetStorageImpl();
    storage->set_data_ptr_noswap(c10::DataPtr(fresh.release_context(), fresh.get(), &::free, self.device()));
    storage->set_nbytes(bytes);
  }
  if (self.sizes() != size) self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

Tensor& set_storage(Tensor& self, c10::Storage storage, c10::SymInt offset, c10::SymIntArrayRef sizes,
                    c10::SymIntArrayRef strides) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  auto size = C10_AS_INTARRAYREF_SLOW(sizes);
  strides.empty() && size.size() ? impl->set_sizes_contiguous(size)
                                 : impl->set_sizes_and_strides(size, C10_AS_INTARRAYREF_SLOW(strides));
  impl->set_storage_offset(offset.expect_int());
  return self;
}

Tensor& set_tensor(Tensor& self, const Tensor& src) {
  return set_storage(self, src.storage(), src.storage_offset(), c10::fromIntArrayRefSlow(src.sizes()),
                     c10::fromIntArrayRefSlow(src.strides()));
}

Tensor& set_whole(Tensor& self, c10::Storage storage) {
  c10::SymInt count = static_cast<int64_t>(storage.nbytes() / self.element_size());
  return set_storage(self, std::move(storage), 0, count, {});
}

Tensor& set_nothing(Tensor& self) {
  c10::Storage nothing(c10::Storage::use_byte_size_t(), 0, memory.allocate(0), &memory, true);
  return set_storage(self, nothing, 0, c10::SymInt(0), {});
}

// ---- kernels that CUDA alone has ----------------------------------------------------------------------------------------
Tensor cudnn_convolution(const Tensor& x, const Tensor& weight, c10::SymIntArrayRef padding, c10::SymIntArrayRef stride,
                         c10::SymIntArrayRef dilation, c10::SymInt groups, bool, bool, bool) {
  launch_count++;
  Call call;
  Tensor a = call.to_cpu(x), w = call.to_cpu(weight);
  call.check_devices("aten::cudnn_convolution", false);
  at::AutoDispatchBelowAutograd below;
  std::vector<c10::SymInt> nothing(padding.size(), 0);
  return call.to_gpu(at::convolution_symint(a, w, {}, stride, padding, dilation, false, nothing, groups), x.device());
}

Tensor depthwise(const Tensor& x, const Tensor& weight, c10::SymIntArrayRef, const std::optional<Tensor>& bias,
                 c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation) {
  launch_count++;
  Call call;
  Tensor a = call.to_cpu(x), w = call.to_cpu(weight);
  std::optional<Tensor> b;
  if (bias && bias->defined()) b = call.to_cpu(*bias);
  call.check_devices("aten::_conv_depthwise2d", false);
  at::AutoDispatchBelowAutograd below;
  std::vector<c10::SymInt> nothing(padding.size(), 0);
  auto found = at::convolution_symint(a, w, b, stride, padding, dilation, false, nothing, x.sym_size(1));
  return call.to_gpu(found, x.device());
}

std::optional<Tensor> on_cpu(Call& call, const std::optional<Tensor>& t) {
  return t && t->defined() ? std::optional<Tensor>(call.to_cpu(*t)) : std::nullopt;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cudnn_batch_norm(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& var, bool training, double momentum, double eps) {
  launch_count++;
  Call c;
  auto [y, m, s] = at::native_batch_norm(c.to_cpu(x), c.to_cpu(weight), on_cpu(c, bias), on_cpu(c, mean),
                                         on_cpu(c, var), training, momentum, eps);
  auto reserve = at::empty({0}, at::TensorOptions().dtype(at::kByte));
  auto d = x.device();
  return {c.to_gpu(y, d), c.to_gpu(m, d), c.to_gpu(s, d), c.to_gpu(reserve, d)};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_batch_norm_backward(
    const Tensor& x, const Tensor& gradient, const Tensor& weight, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& var, const std::optional<Tensor>& saved_mean, const std::optional<Tensor>& saved_var,
    double eps, const Tensor&) {
  launch_count++;
  Call c;
  auto [gx, gw, gb] = at::native_batch_norm_backward(c.to_cpu(gradient), c.to_cpu(x), c.to_cpu(weight), on_cpu(c, mean),
                                                     on_cpu(c, var), on_cpu(c, saved_mean), on_cpu(c, saved_var), true,
                                                     eps, {true, true, true});
  return {c.to_gpu(gx, x.device()), c.to_gpu(gw, x.device()), c.to_gpu(gb, x.device())};
}

int64_t fused_sdp_choice(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double, bool,
                         std::optional<double>, bool) {
  return 0;  // attention in separate operations
}

// ---- putting them in place ----------------------------------------------------------------------------------------------
std::vector<c10::RegistrationHandleRAII>* handles = nullptr;

void put(const c10::OperatorName& name, c10::KernelFunction kernel) {
  auto& dispatcher = c10::Dispatcher::singleton();
  handles->push_back(dispatcher.registerImpl(name, KEY, std::move(kernel), std::nullopt, nullptr, "emulated"));
}

template <class F>
c10::OperatorName put(const char* name, const char* overload, F* kernel) {
  c10::OperatorName found(name, overload);
  put(found, c10::KernelFunction::makeFromUnboxedRuntimeFunction(kernel));
  return found;
}

bool is_view(const c10::FunctionSchema& schema) {
  for (const auto& r : schema.returns())
    if (r.alias_info() && !r.alias_info()->isWrite()) return true;
  return false;
}

void install(DeviceIndex devices) {
  TORCH_CHECK(!handles, "the emulated device is there already");
  device_count = devices;
  handles = new std::vector<c10::RegistrationHandleRAII>();
  static c10::impl::DeviceGuardImplRegistrar registrar(GPU, new Guard());
  c10::SetAllocator(GPU, &memory, 255);
  for (DeviceIndex i = 0; i < MOST_DEVICES; ++i)
    generators.push_back(at::make_generator<Generator>(Device(GPU, i)));
  static Hooks hooks;  // the object is torch's own, whatever it is; what it does is replaced
  auto* theirs = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
  *reinterpret_cast<void**>(theirs) = *reinterpret_cast<void**>(&hooks);

  const std::unordered_set<c10::OperatorName> by_hand = {
      put("aten::empty", "memory_format", &empty),
      put("aten::empty_strided", "", &empty_strided),
      put("aten::copy_", "", &copy_),
      put("aten::_copy_from_and_resize", "", &copy_from_and_resize),
      put("aten::_local_scalar_dense", "", &local_scalar_dense),
      put("aten::resize_", "", &resize_),
      put("aten::set_", "source_Storage_storage_offset", &set_storage),
      put("aten::set_", "source_Tensor", &set_tensor),
      put("aten::set_", "source_Storage", &set_whole),
      put("aten::set_", "", &set_nothing),
      put("aten::cudnn_convolution", "", &cudnn_convolution),
      put("aten::_conv_depthwise2d", "", &depthwise),
      put("aten::cudnn_batch_norm", "", &cudnn_batch_norm),
      put("aten::cudnn_batch_norm_backward", "", &cudnn_batch_norm_backward),
      put("aten::_fused_sdp_choice", "", &fused_sdp_choice),
  };
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
    auto op = c10::Dispatcher::singleton().findOp(name);
    const bool is_ours = name.name.rfind("aten::", 0) == 0 && op && op->hasSchema() && !by_hand.count(name);
    const bool computes = is_ours && (op->hasKernelForDispatchKey(KEY) || op->hasKernelForDispatchKey(c10::DispatchKey::CPU));
    if (computes && !is_view(op->schema())) put(name, c10::KernelFunction::makeFromBoxedFunction<&run_on_cpu>());
  }
}

}  // namespace emulated

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using namespace emulated;
  m.def("install", &install);
  m.def("generators", [] { return std::vector<at::Generator>(generators.begin(), generators.begin() + device_count); });
  m.def("device_count", [] { return int(device_count); });
  m.def("current_device", [] { return int(current); });
  m.def("exchange_device", [](int i) { return int(i < 0 ? current : std::exchange(current, DeviceIndex(i))); });
  m.def("launches", [] { return launch_count.load(); });
  m.def("refuse_double", [](bool does) { refuses_double = does; });
  m.def("watch", [](py::object called) {  // with what is waited for; None ends it
    is_watched = false;
    if (called.is_none()) return;
    watcher = new py::object(called);
    is_watched = true;
  });
}
