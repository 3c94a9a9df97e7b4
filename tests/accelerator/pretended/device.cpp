// A pretended accelerator: two devices whose memory is the host's and whose kernels are the CPU's, with the manners
// of a real one.
//
// Every operation without a kernel at the end of this file is run by `run_on_host`: it shows the operation's device
// tensors to the CPU's kernel as host tensors of the same memory, so what is written in place, resized or a view
// stays so. Refused are what CUDA refuses: tensors of two devices in one operation, generators of another device,
// fused optimizers whose gradients lie in memory otherwise than their weights, and waiting while a graph is captured. A
// copy to the host that does not block has not arrived until somebody waits. A captured graph is a list of operations
// with their tensors, one launch to replay. Whatever makes the host wait is told to the Python side, which knows the
// line.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/GraphImplInterface.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::Device;
using c10::IValue;
using c10::Storage;
using std::optional;

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex kDevices = 2;
thread_local c10::DeviceIndex t_current = 0;
thread_local c10::StreamId t_stream = 0;  // in use, of any device

bool is_ours(const Tensor& t) { return t.defined() && t.device().type() == kType; }

// -- what is told: launches are counted, waits are reported ---------------------------------------------------

std::atomic<int64_t> g_launches{0};
std::atomic<bool> g_watched{false};
thread_local bool t_in_kernel = false;  // what a CPU kernel does by itself is no event of the device

struct Kernel {
  const bool outer = t_in_kernel;
  Kernel() {
    if (!outer) ++g_launches;
    t_in_kernel = true;
  }
  ~Kernel() { t_in_kernel = outer; }
};

void tell(const char* what, const std::string& operation) {
  if (!g_watched || t_in_kernel) return;
  static const auto listener = c10::Dispatcher::singleton().findSchemaOrThrow("pretended::hear", "");
  torch::jit::Stack stack{IValue(std::string(what)), IValue(operation)};
  listener.callBoxed(&stack);
}

// Copies to the host that were asked for without blocking: they arrive when the host waits.
std::mutex g_late_lock;
std::vector<std::function<void()>> g_late;

void let_arrive() {
  std::vector<std::function<void()>> late;
  {
    std::lock_guard<std::mutex> hold(g_late_lock);
    late.swap(g_late);
  }
  for (const auto& copy : late) copy();
}

struct Recording;
thread_local Recording* t_recording = nullptr;  // the graph that is being captured

void wait(const char* what, const std::string& operation) {
  TORCH_CHECK(t_recording == nullptr || t_in_kernel, "operation not permitted when stream is capturing: ", operation,
              " (", what, ")");
  tell(what, operation);
  let_arrive();
}

// -- memory ---------------------------------------------------------------------------------------------------

struct DeviceMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(bytes);
    return {data, data, &c10::free_cpu, Device(kType, t_current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

std::mutex g_pinned_lock;
std::unordered_set<const void*> g_pinned;

struct PinnedMemory final : c10::Allocator {
  static void release(void* data) {
    {
      std::lock_guard<std::mutex> hold(g_pinned_lock);
      g_pinned.erase(data);
    }
    c10::free_cpu(data);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(bytes == 0 ? 1 : bytes);
    std::lock_guard<std::mutex> hold(g_pinned_lock);
    g_pinned.insert(data);
    return {data, data, &release, Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

DeviceMemory g_memory;
PinnedMemory g_pinned_memory;
REGISTER_ALLOCATOR(kType, &g_memory)

// The same bytes under another device's name; the first owner lives as long.
c10::DataPtr same_bytes(const Storage& owner, Device device) {
  const auto release = [](void* kept) { delete static_cast<Storage*>(kept); };
  return {owner.mutable_data(), new Storage(owner), release, device};
}

Storage seen_as(const Storage& owner, Device device) {
  c10::Allocator* allocator = device.is_cpu() ? c10::GetCPUAllocator() : static_cast<c10::Allocator*>(&g_memory);
  return Storage(Storage::use_byte_size_t(), owner.nbytes(), same_bytes(owner, device), allocator, true);
}

Tensor over(const Tensor& shape, Storage storage) {
  const auto key = storage.device().is_cpu() ? c10::DispatchKey::CPU : c10::DispatchKey::PrivateUse1;
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), shape.dtype());
  auto* impl = made.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(shape.sizes(), shape.strides(), shape.storage_offset());
  if (shape.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return made;
}

Tensor on_host(const Tensor& t) { return is_ours(t) ? over(t, seen_as(t.storage(), c10::DeviceType::CPU)) : t; }

Tensor on_device(const Tensor& t, Device device) {
  return t.defined() && !is_ours(t) ? over(t, seen_as(t.storage(), device)) : t;
}

// -- random numbers -------------------------------------------------------------------------------------------

struct DeviceGenerator final : c10::GeneratorImpl {
  at::Generator inner;  // what the CPU's kernels draw from
  DeviceGenerator(at::Generator from, c10::DeviceIndex index)
      : GeneratorImpl(Device(kType, index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        inner(std::move(from)) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_offset(uint64_t offset) override { inner.set_offset(offset); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  DeviceGenerator* clone_impl() const override { return new DeviceGenerator(inner.clone(), device().index()); }
};

c10::DeviceIndex index_or_current(c10::DeviceIndex index) { return index < 0 ? t_current : index; }

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator(), index_or_current(index));
}

const at::Generator& default_generator(c10::DeviceIndex index) {
  static const std::vector<at::Generator> own{new_generator(0), new_generator(1)};
  return own.at(index_or_current(index));
}

// Some kernels draw from the default generator without being given one (dropout): theirs is the CPU's, which has
// the device's state while they run.
struct DeviceDraws {
  at::Generator cpu = at::detail::getDefaultCPUGenerator(), device;
  Tensor kept = cpu.get_state();
  explicit DeviceDraws(c10::DeviceIndex index) : device(default_generator(index)) { cpu.set_state(device.get_state()); }
  ~DeviceDraws() {
    device.set_state(cpu.get_state());
    cpu.set_state(kept);
  }
};

// -- what PyTorch asks of a device ----------------------------------------------------------------------------

struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  Device exchangeDevice(Device device) const override {
    const Device before(kType, t_current);
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return Device(kType, t_current); }
  void setDevice(Device device) const override { t_current = index_or_current(device.index()); }
  void uncheckedSetDevice(Device device) const noexcept override { t_current = index_or_current(device.index()); }
  c10::Stream getStream(Device device) const override { return stream(device, t_stream); }
  c10::Stream getDefaultStream(Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getNewStream(Device device, int) const override {
    static std::atomic<c10::StreamId> made{0};
    return stream(device, ++made);
  }
  c10::Stream exchangeStream(c10::Stream to) const override {
    return stream(to.device(), std::exchange(t_stream, to.id()));
  }
  static c10::Stream stream(Device device, c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, Device(kType, index_or_current(device.index())), id);
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return false; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return false; }
  void synchronizeStream(const c10::Stream&) const override { wait("synchronise", "stream"); }
  void synchronizeEvent(void*) const override { wait("synchronise", "event"); }
  void synchronizeDevice(const c10::DeviceIndex) const override { wait("synchronise", "device"); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, DeviceGuard)

struct DeviceHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override { return t_current; }
  void setCurrentDevice(c10::DeviceIndex index) const override { t_current = index; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override { return std::exchange(t_current, index); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override { return exchangeDevice(index); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override { return default_generator(index); }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override { return new_generator(index); }
  Device getDeviceFromPtr(void*) const override { return Device(kType, t_current); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &g_pinned_memory; }
  bool isPinnedPtr(const void* data) const override {
    std::lock_guard<std::mutex> hold(g_pinned_lock);
    return g_pinned.count(data) == 1;
  }
  void resizePrivateUse1Bytes(const Storage& storage, size_t bytes) const override {
    c10::DataPtr grown = g_memory.allocate(bytes);
    std::memcpy(grown.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.set_data_ptr_noswap(std::move(grown));
    storage.set_nbytes(bytes);
  }
};

// -- captured graphs ------------------------------------------------------------------------------------------

struct Recording final : at::GraphImplInterface {
  std::vector<std::function<void()>> steps;
  std::vector<Tensor> made;  // memory that was asked for while capturing
  explicit Recording(const at::GraphImplArgs&) {}

  void capture_begin(c10::MempoolId_t, at::GraphCaptureMode) override {
    TORCH_CHECK(t_stream != 0, "a graph must be captured on a stream of its own, not on the default stream");
    TORCH_CHECK(t_recording == nullptr, "a graph is being captured already");
    t_recording = this;
  }
  void capture_end() override {
    t_recording = nullptr;
    // On a real device nothing has run when a capture ends.
    for (const Tensor& t : made) std::memset(t.storage().mutable_data(), 0xff, t.storage().nbytes());
    made.clear();
  }
  void instantiate() override {}
  void replay() override {
    Kernel one_launch;
    for (const auto& step : steps) step();
  }
  void reset() override { steps.clear(); }
  c10::MempoolId_t pool() const override { return {0, 0}; }
  void enable_debug_mode() override {}
  void debug_dump(const std::string&) override {}
};

}  // namespace
namespace at { REGISTER_GRAPH_IMPL(PRETENDED, Recording) }
namespace {

// -- one operation on the host's view of the memory -----------------------------------------------------------

template <class Visit>
void for_tensors(const IValue& value, Visit visit) {
  if (value.isTensor() && value.toTensor().defined()) visit(value.toTensor());
  if (value.isList())
    for (const IValue& item : value.toListRef()) for_tensors(item, visit);
}

template <class Change>
IValue changed(const IValue& value, Change change) {
  if (value.isTensor()) return value.toTensor().defined() ? IValue(change(value.toTensor())) : value;
  if (!value.isList()) return value;
  auto list = c10::impl::GenericList(value.toList().elementType());
  for (const IValue& item : value.toListRef()) list.push_back(changed(item, change));
  return list;
}

// The device's tensors and storages beside what the host sees of them, for the time of one call.
class Pairs {
 public:
  explicit Pairs(Device device) : device_(device) {}

  Tensor host(const Tensor& t) {
    if (!is_ours(t)) return t;
    for (const auto& pair : tensors_)
      if (pair.device.is_same(t)) return pair.host;
    auto& storage = storages_[t.storage().unsafeGetStorageImpl()];
    if (!storage) storage = seen_as(t.storage(), c10::DeviceType::CPU);
    tensors_.push_back({t, over(t, storage)});
    return tensors_.back().host;
  }

  // An argument that comes back is itself again, a view of one stays a view, all else is new.
  Tensor device(const Tensor& result) const {
    for (const auto& pair : tensors_)
      if (pair.host.is_same(result)) return pair.device;
    for (const auto& pair : tensors_)
      if (pair.host.storage().is_alias_of(result.storage())) return over(result, pair.device.storage());
    return on_device(result, device_);
  }

  // `out=` arguments may have been given another size, and other memory.
  void take_over_sizes() const {
    for (const auto& [device, host] : tensors_) {
      if (device.storage().data() != host.storage().data()) {
        device.storage().set_data_ptr_noswap(same_bytes(host.storage(), device.device()));
        device.storage().set_nbytes(host.storage().nbytes());
      }
      if (device.sizes() != host.sizes() || device.strides() != host.strides())
        device.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
    }
  }

 private:
  struct Pair { Tensor device, host; };
  Device device_;
  std::vector<Pair> tensors_;
  std::unordered_map<const void*, Storage> storages_;
};

bool reads_by_index(const std::string& name) { return name == "aten::index" || name == "aten::_unsafe_index"; }
bool writes_by_index(const std::string& name) { return name.find("index_put") != std::string::npos; }

// The device of an operation; CUDA's rules: single numbers may lie on the host if they are only read, and so may
// indices of what lies on the device.
Device checked_device(const c10::FunctionSchema& schema, c10::ArrayRef<IValue> values) {
  optional<Device> device;
  for (const IValue& value : values) {
    for_tensors(value, [&](const Tensor& t) {
      if (is_ours(t) && !device) device = t.device();
    });
    if (value.isDevice() && value.toDevice().type() == kType && !device)
      device = Device(kType, index_or_current(value.toDevice().index()));
  }
  if (!device) return Device(kType, t_current);
  const bool indexes = reads_by_index(schema.name()) || writes_by_index(schema.name());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto& argument = schema.arguments()[i];
    const bool written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    const bool may_be_anywhere = indexes && argument.name() == "indices" && is_ours(values[0].toTensor());
    for_tensors(values[i], [&](const Tensor& t) {
      const bool fits = t.device() == *device || may_be_anywhere || (t.device().is_cpu() && t.dim() == 0 && !written);
      TORCH_CHECK(fits, "Expected all tensors to be on the same device, but ", schema.name(), " got ", argument.name(),
                  " on ", t.device(), " beside a tensor on ", *device);
    });
  }
  return *device;
}

// Fused optimizers read weights, gradients and momentum as flat memory; on CUDA they say so.
void check_fused_layout(const c10::FunctionSchema& schema, c10::ArrayRef<IValue> values) {
  if (schema.name().rfind("aten::_fused_", 0) != 0 || !values[0].isTensorList()) return;
  const auto weights = values[0].toTensorList();
  for (size_t i = 1; i < values.size(); ++i) {
    if (!values[i].isTensorList()) continue;
    const auto others = values[i].toTensorList();
    for (size_t k = 0; k < others.size() && k < weights.size(); ++k) {
      const Tensor one = weights[k], other = others[k];
      TORCH_CHECK(other.dim() == 0 || one.sizes() != other.sizes() || one.strides() == other.strides(),
                  "params, grads and momentum of ", schema.name(), " must have the same strides, but ",
                  schema.arguments()[i].name(), " has ", other.strides(), " beside ", one.strides());
    }
  }
}

// Operations whose result has a size, or a value for the host, that only the finished device knows.
void tell_of_waiting(const c10::FunctionSchema& schema, c10::ArrayRef<IValue> values) {
  static const std::unordered_set<std::string> always{
      "aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2", "aten::unique_dim",
      "aten::unique_consecutive", "aten::bincount", "aten::multinomial", "aten::equal", "aten::is_nonzero"};
  const std::string& name = schema.name();
  if (always.count(name) == 1) wait("size or value", name);
  if (name == "aten::repeat_interleave" && values.back().isNone()) wait("size or value", name);
  if (!writes_by_index(name)) return;  // a read brings its indices to the device before it comes here
  for_tensors(values[1], [&](const Tensor& index) {
    if (!is_ours(index)) wait("host to device", name + " by an index of the host");
    const bool mask = index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
    if (mask && values[2].toTensor().numel() != 1) wait("size or value", name + " by a mask");
  });
}

// A replayed operation writes its results where the captured one did.
void into_same_memory(const IValue& from, const IValue& to) {
  if (to.isTensor() && to.toTensor().defined() && from.toTensor().data_ptr() != to.toTensor().data_ptr())
    on_host(to.toTensor()).copy_(on_host(from.toTensor()));
  if (!to.isList()) return;
  for (size_t i = 0; i < to.toListRef().size(); ++i) into_same_memory(from.toListRef()[i], to.toListRef()[i]);
}

void run_on_host(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const auto& schema = operation.schema();
  const size_t first = stack->size() - schema.arguments().size();
  const std::vector<IValue> given(stack->begin() + first, stack->end());
  const Device device = checked_device(schema, given);
  check_fused_layout(schema, given);
  tell_of_waiting(schema, given);

  Pairs pairs(device);
  bool draws_by_default = operation.hasTag(at::Tag::nondeterministic_seeded);
  for (size_t i = 0; i < given.size(); ++i) {
    IValue& value = (*stack)[first + i];
    if (schema.arguments()[i].name() == "generator") {
      const at::Generator generator = value.isNone() ? default_generator(device.index()) : value.toGenerator();
      TORCH_CHECK(generator.device().type() == kType, "Expected a '", kType, "' device type for generator but found '",
                  generator.device().type(), "'");
      value = generator.get<DeviceGenerator>()->inner;
      draws_by_default = false;
    } else if (value.isDevice() && value.toDevice().type() == kType) {
      value = Device(c10::DeviceType::CPU);
    } else {
      value = changed(value, [&](const Tensor& t) { return pairs.host(t); });
    }
  }
  {
    Kernel kernel;
    at::AutoDispatchBelowADInplaceOrView no_autograd;
    optional<DeviceDraws> draws;
    if (draws_by_default) draws.emplace(device.index());
    operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  pairs.take_over_sizes();
  const size_t results = schema.returns().size();
  for (size_t i = stack->size() - results; i < stack->size(); ++i)
    (*stack)[i] = changed((*stack)[i], [&](const Tensor& t) { return pairs.device(t); });
  if (Recording* graph = std::exchange(t_recording, nullptr)) {  // what the closure does is not captured itself
    const std::vector<IValue> gave(stack->end() - results, stack->end());
    const auto again = [operation, given, gave] {
      torch::jit::Stack arguments = given;
      run_on_host(operation, &arguments);
      for (size_t i = 0; i < gave.size(); ++i) into_same_memory(arguments[arguments.size() - gave.size() + i], gave[i]);
    };
    std::unordered_set<const void*> known;
    for (const IValue& value : given)
      for_tensors(value, [&](const Tensor& t) { known.insert(t.storage().unsafeGetStorageImpl()); });
    graph->steps.push_back(again);
    for (const IValue& value : gave)
      for_tensors(value, [&](const Tensor& t) {
        if (known.count(t.storage().unsafeGetStorageImpl()) == 0) graph->made.push_back(t);
      });
    t_recording = graph;
  }
}

// -- the kernels that a device must bring ---------------------------------------------------------------------

Tensor noted(Tensor t) {
  if (t_recording != nullptr) t_recording->made.push_back(t);
  return t;
}

Tensor empty(IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<Device> device,
             optional<bool>, optional<at::MemoryFormat> format) {
  const c10::DeviceGuard here(device.value_or(Device(kType, t_current)));
  return noted(at::detail::empty_generic(size, &g_memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                         c10::dtype_or_default(dtype), format));
}

Tensor empty_strided(IntArrayRef size, IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>,
                     optional<Device> device, optional<bool>) {
  const c10::DeviceGuard here(device.value_or(Device(kType, t_current)));
  return noted(at::detail::empty_strided_generic(size, stride, &g_memory,
                                                 c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                                 c10::dtype_or_default(dtype)));
}

Tensor copy_memory(const Tensor& from, const Tensor& to, bool non_blocking) {
  const bool arrives = is_ours(to), leaves = is_ours(from);
  if (leaves && !arrives && non_blocking && to.is_pinned()) {
    const Tensor value = on_host(from).clone();  // later kernels change the source only after this copy
    if (to.is_contiguous()) std::memset(to.mutable_data_ptr(), 0xff, to.nbytes());
    std::lock_guard<std::mutex> hold(g_late_lock);
    g_late.emplace_back([to, value] { at::Tensor(to).copy_(value); });
    ++g_launches;
    return to;
  }
  if (leaves && !arrives) wait("device to host", "copy");
  if (arrives && !leaves && !non_blocking) wait("host to device", "copy");
  TORCH_CHECK(t_recording == nullptr || (arrives && leaves), "operation not permitted when stream is capturing: copy");
  Kernel kernel;
  on_host(to).copy_(on_host(from));
  if (t_recording != nullptr) t_recording->steps.push_back([from, to] { on_host(to).copy_(on_host(from)); });
  return to;
}

Tensor copy_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_memory(from, to, false);
}

at::Scalar one_number(const Tensor& t) {
  wait("value read", "item");
  Kernel kernel;
  return on_host(t).item();
}

Device device_of_all(const Tensor& first, std::initializer_list<Tensor> others) {
  for (const Tensor& t : others)
    TORCH_CHECK(!t.defined() || t.device() == first.device(), "Input type and weight type should be the same, but are on ",
                first.device(), " and ", t.device());
  return first.device();
}

Tensor convolution(const Tensor& input, const Tensor& weight, const optional<Tensor>& bias, IntArrayRef stride,
                   IntArrayRef padding, IntArrayRef dilation, bool transposed, IntArrayRef output_padding,
                   int64_t groups) {
  const Device device = device_of_all(input, {weight, bias.value_or(Tensor())});
  Kernel kernel;
  const auto host_bias = bias ? optional<Tensor>(on_host(*bias)) : std::nullopt;
  return on_device(at::convolution(on_host(input), on_host(weight), host_bias, stride, padding, dilation, transposed,
                                   output_padding, groups), device);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& input, const Tensor& weight, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  const Device device = device_of_all(grad, {input, weight});
  Kernel kernel;
  const std::vector<int64_t> bias_size{transposed ? weight.size(1) * groups : weight.size(0)};
  auto [x, w, b] = at::convolution_backward(on_host(grad), on_host(input), on_host(weight), IntArrayRef(bias_size),
                                            stride, padding, dilation, transposed, output_padding, groups, mask);
  return {on_device(x, device), on_device(w, device), on_device(b, device)};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_memory);
  library.impl("_copy_from_and_resize", &copy_and_resize);
  library.impl("_local_scalar_dense", &one_number);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
  // names of memory only, no kernel
  library.impl("view", &at::native::view);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &at::native::resize_);
  library.impl("set_.source_Tensor", &at::native::set_tensor_);
  library.impl("set_.source_Storage", static_cast<Tensor& (*)(Tensor&, Storage)>(&at::native::set_));
  library.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
}

// Half precision by PyTorch's own lists of operations.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) { library.fallback(torch::CppFunction::makeFallthrough()); }

#define LOW(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define WHOLE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define WHOLE_UNLESS_TOLD(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(LOW)
  AT_FORALL_FP32(WHOLE)
  AT_FORALL_FP32_SET_OPT_DTYPE(WHOLE_UNLESS_TOLD)
  AT_FORALL_PROMOTE(WIDEST)
}

}  // namespace

// -- for the Python side, which implements `hear` -------------------------------------------------------------

TORCH_LIBRARY(pretended, library) {
  library.def("hear(str what, str operation) -> ()");
  library.def("watch(bool on) -> ()", [](bool on) { g_watched = on; });
  library.def("launches() -> int", [] { return g_launches.load(); });
  library.def("random_state(int device) -> Tensor", [](int64_t device) {
    return default_generator(static_cast<c10::DeviceIndex>(device)).get_state();
  });
  library.def("set_random_state(int device, Tensor state) -> ()", [](int64_t device, const Tensor& state) {
    at::Generator generator = default_generator(static_cast<c10::DeviceIndex>(device));
    generator.set_state(state);
  });
  library.def("device_count() -> int", [] { return static_cast<int64_t>(kDevices); });
  library.def("current_device() -> int", [] { return static_cast<int64_t>(t_current); });
  library.def("set_device(int device) -> ()", [](int64_t device) { t_current = static_cast<c10::DeviceIndex>(device); });
  library.def("synchronize() -> ()", [] { wait("synchronise", "device"); });
  library.def("install() -> ()", [] { at::RegisterPrivateUse1HooksInterface(new DeviceHooks()); });
}
