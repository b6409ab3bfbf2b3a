// The engines of this stand-in. They compute the same; what they are said to be lets a test see that the right one is chosen.
#include "descriptor.hpp"
#include "pretence.hpp"

namespace dnn {

namespace {

struct Proposal {
  int64_t index;
  std::vector<int> notes;
};

// In the order of mode A: the first two must not be used by who wants the same bits every time and all of its precision.
const Proposal MODE_A_ENGINES[] = {{40, {TENSOR_CORE, NONDETERMINISTIC}}, {41, {TENSOR_CORE, DOWN_CONVERT_INPUTS}}, {10, {}}, {20, {TENSOR_CORE}}, {21, {TENSOR_CORE}}};
const Proposal FALLBACK_ENGINES[] = {{0, {}}, {42, {NONDETERMINISTIC}}};

// Engines that refuse, and whether when planned or when run: set by tests.
std::map<int64_t, int>& refusals() {
  static auto* all = new std::map<int64_t, int>;
  return *all;
}
constexpr int WHEN_PLANNED = 1, WHEN_RUN = 2;

// Engines on the tensor cores load whole vectors.
bool fits(const Proposal& proposal, const Graph& graph) {
  for (const auto& [_, tensor] : graph.tensors) {
    if (!tensor.is_virtual && tensor.alignment < 16 && proposal.index != 0) return false;
  }
  return true;
}

// Never destroyed: configurations that have been handed out refer to engines.
Descriptor* make(Kind kind) {
  auto* made = new Descriptor{kind};
  made->finalized = true;
  descriptors().insert(made);
  return made;
}

}  // namespace

void propose_engines(Descriptor& heuristic) {
  const Descriptor& operations = heuristic.part(ENGINEHEUR_OPERATION_GRAPH);
  if (!operations.has(OPERATIONGRAPH_HANDLE) && !heuristic.has(ENGINEHEUR_DEVICEPROP)) refuse(BAD_PARAM, "heuristic: neither a handle nor a device is known");
  if (heuristic.has(ENGINEHEUR_DEVICEPROP)) heuristic.part(ENGINEHEUR_DEVICEPROP);
  const int mode = heuristic.value<int>(ENGINEHEUR_MODE);
  if (mode < INSTANT || mode > MODE_A) refuse(BAD_PARAM, "heuristic: mode %d", mode);
  const Graph graph = graph_of(operations);
  std::vector<Proposal> proposals(std::begin(MODE_A_ENGINES), std::end(MODE_A_ENGINES));
  if (mode == FALLBACK) proposals.assign(std::begin(FALLBACK_ENGINES), std::end(FALLBACK_ENGINES));
  std::vector<void*> results;
  for (const Proposal& proposal : proposals) {
    if (!fits(proposal, graph)) continue;
    Descriptor* engine = make(ENGINE);
    engine->attributes[ENGINE_OPERATION_GRAPH] = heuristic.attributes.at(ENGINEHEUR_OPERATION_GRAPH);
    engine->fill<int64_t>(ENGINE_GLOBAL_INDEX, INT64, {proposal.index});
    engine->fill<int>(ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, proposal.notes);
    engine->fill<int>(ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, {});
    Descriptor* configuration = make(ENGINECFG);
    configuration->fill<void*>(ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, {engine});
    results.push_back(configuration);
  }
  heuristic.fill<void*>(ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR, results);
}

void prepare_plan(Descriptor& plan) {
  const Descriptor& engine = plan.part(EXECUTION_PLAN_ENGINE_CONFIG).part(ENGINECFG_ENGINE);
  if (!plan.has(EXECUTION_PLAN_HANDLE) && !plan.has(EXECUTION_PLAN_DEVICEPROP)) refuse(BAD_PARAM, "execution plan: neither a handle nor a device is known");
  if (plan.has(EXECUTION_PLAN_HANDLE)) live_handle(plan.value<void*>(EXECUTION_PLAN_HANDLE), "execution plan");
  const int64_t index = engine.integer(ENGINE_GLOBAL_INDEX);
  if (refusals()[index] == WHEN_PLANNED || device::pretence("cudnn") == "refusing") refuse(NOT_SUPPORTED, "engine %ld was told to refuse", long(index));
  const Graph graph = graph_of(engine.part(ENGINE_OPERATION_GRAPH));
  // As for partial sums; the fallback engine needs more, as the library's do.
  const int64_t bytes = static_cast<int64_t>(graph.tensors.at(graph.filter).count() * 4);
  const bool needed = graph.convolution == CONVOLUTION_BACKWARD_FILTER || index == 0;
  plan.fill<int64_t>(EXECUTION_PLAN_WORKSPACE_SIZE, INT64, {!needed ? 0 : index == 0 ? 4 * bytes : bytes});
}

void hand_out(const Descriptor& from, Name name, void** created, int64_t count) {
  const auto results = from.list<Descriptor*>(name);
  for (int64_t i = 0; i < count && i < static_cast<int64_t>(results.size()); i++) {
    Descriptor& target = live(created[i], "reading descriptors");
    const Descriptor& source = *results[static_cast<size_t>(i)];
    if (target.kind != source.kind) refuse(DESCRIPTOR_TYPE, "reading descriptors: a %s was created for a %s", kind_name(target.kind), kind_name(source.kind));
    if (target.finalized) refuse(BAD_PARAM, "reading descriptors: a %s is finalized already", kind_name(target.kind));
    target = source;
  }
}

bool refuses_to_run(int64_t engine) { return refusals()[engine] == WHEN_RUN; }

}  // namespace dnn

// For the tests: an engine refuses when it is planned (1), when it is run (2), or not any more (0).
EXPORT void software_gpu_refuse_engine(int64_t engine, int when) {
  ENTER;
  dnn::refusals()[engine] = when;
}
