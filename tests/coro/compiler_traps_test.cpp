// The forms in which this code base writes co_await, each left at every suspension point in three ways: run
// on to its end, cancelled, and its frame destroyed. Other forms (an await inside a condition, inside braces,
// on a temporary made with braces, in a capturing lambda) are compiled wrongly by g++ 12: things are freed
// twice or results lost, without a warning. tools/tidy.py rejects those; this test shows that these hold.
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coro_test.h"
#include "perigee/coro/timeout.h"

namespace perigee::coro {
namespace {

using namespace perigee::test;

// Owns memory, knows where it lives, is counted: a copy too many or a destruction too few shows.
class Tracked {
 public:
  explicit Tracked(int v) : value_(std::make_unique<int>(v)), self_(this) { ++live; }
  Tracked(const Tracked& o) : value_(std::make_unique<int>(o.value())), self_(this) { ++live; }
  Tracked(Tracked&& o) noexcept : value_(std::move(o.value_)), self_(this) { ++live; }
  Tracked& operator=(Tracked o) noexcept {
    value_ = std::move(o.value_);
    return *this;
  }
  ~Tracked() {
    if (self_ != this) std::abort();
    self_ = nullptr;
    --live;
  }
  [[nodiscard]] int value() const { return value_ ? *value_ : -1; }
  static inline int live = 0;

 private:
  std::unique_ptr<int> value_;
  const void* self_;
};

// Where every leaf of a form stops.
class Gate {
 public:
  class Hold : public Wait {
   public:
    explicit Hold(Gate& gate) : Wait(&on_cancel), gate_(gate) {}
    ~Hold() {
      if (gate_.held_ == this) gate_.held_ = nullptr;
    }
    bool await_ready() const noexcept { return false; }
    template <typename P>
    bool await_suspend(std::coroutine_handle<P> h) {
      if (!suspend(h)) return false;
      gate_.held_ = this;
      return true;
    }
    Result<void> await_resume() const { return result_; }

   private:
    friend class Gate;
    static void on_cancel(Wait& w, const Error& reason) {
      auto& self = static_cast<Hold&>(w);
      if (self.gate_.held_ == &self) self.gate_.held_ = nullptr;
      self.result_ = std::unexpected(reason);
    }
    void go() { wake(); }
    Gate& gate_;
    Result<void> result_;
  };
  [[nodiscard]] Hold pass() { return Hold(*this); }
  [[nodiscard]] bool holding() const { return held_ != nullptr; }
  void open() {
    Hold* held = std::exchange(held_, nullptr);
    if (held != nullptr) held->go();
  }

 private:
  Hold* held_ = nullptr;
};

// --- what the forms call -------------------------------------------------------------------------------------

Task<int> number(Gate& g, int x) {
  (void)co_await g.pass();
  co_return x;
}
Task<Tracked> make(Gate& g, int x) {
  Tracked t(x);
  (void)co_await g.pass();
  co_return t;
}
Task<int> take(Gate& g, Tracked t) {
  (void)co_await g.pass();
  co_return t.value();
}
Task<int> look(Gate& g, const Tracked& t) {
  (void)co_await g.pass();
  co_return t.value();
}
Task<bool> truth(Gate& g, bool b) {
  (void)co_await g.pass();
  co_return b;
}
Task<Result<Tracked>> maybe(Gate& g, int x) {
  auto passed = co_await g.pass();
  CO_TRY_VOID(passed);
  if (x < 0) co_return fail(ErrorKind::invalid, "negative");
  co_return Tracked(x);
}
Task<void> nothing(Gate& g) {
  (void)co_await g.pass();
}
Task<int> throws(Gate& g, Tracked t) {
  (void)co_await g.pass();
  throw t.value();
}
struct Options {
  Tracked first;
  Tracked second;
  int third = 0;
};
Task<int> with_options(Gate& g, Options o) {
  (void)co_await g.pass();
  co_return o.first.value() + o.second.value() + o.third;
}
Task<int> with_vector(Gate& g, std::vector<Tracked> all) {
  (void)co_await g.pass();
  int sum = 0;
  for (const Tracked& t : all)
    sum += t.value();
  co_return sum;
}
class Maker {
 public:
  explicit Maker(int x) : base_(x) {}
  Task<Tracked> method(Gate& g, int x) const {
    (void)co_await g.pass();
    co_return Tracked(base_.value() + x);
  }

 private:
  Tracked base_;
};

// --- the forms. Each gives 42 when it runs to its end. ---------------------------------------------------------

Task<int> statement(Gate& g) {
  co_await nothing(g);
  co_return 42;
}
Task<int> declared(Gate& g) {
  const int x = co_await number(g, 42);
  co_return x;
}
Task<int> declared_auto(Gate& g) {
  auto t = co_await make(g, 42);
  co_return t.value();
}
Task<int> assigned(Gate& g) {
  int x = 0;
  x = co_await number(g, 42);
  co_return x;
}
Task<int> assigned_tracked(Gate& g) {
  Tracked t(1);
  t = co_await make(g, 42);
  co_return t.value();
}
Task<int> returned(Gate& g) {
  co_return co_await number(g, 42);
}
Task<int> discarded(Gate& g) {
  (void)co_await make(g, 1);
  co_return 42;
}
Task<int> named_condition(Gate& g) {
  const bool yes = co_await truth(g, true);
  if (yes) co_return 42;
  co_return 0;
}
Task<int> named_loop_condition(Gate& g) {
  int rounds = 0;
  for (;;) {
    const bool more = co_await truth(g, rounds < 3);
    if (!more) break;
    ++rounds;
  }
  co_return rounds * 14;
}
Task<int> named_switch(Gate& g) {
  const int which = co_await number(g, 2);
  switch (which) {
    case 2: co_return 42;
    default: co_return 0;
  }
}
Task<int> temporary_argument(Gate& g) {
  const int x = co_await take(g, Tracked(42));
  co_return x;
}
Task<int> named_argument_moved(Gate& g) {
  Tracked t(42);
  const int x = co_await take(g, std::move(t));
  co_return x;
}
Task<int> argument_by_reference(Gate& g) {
  const Tracked t(42);
  const int x = co_await look(g, t);
  co_return x;
}
Task<int> named_options(Gate& g) {
  Options o{.first = Tracked(1), .second = Tracked(40), .third = 1};
  const int x = co_await with_options(g, std::move(o));
  co_return x;
}
Task<int> named_vector(Gate& g) {
  std::vector<Tracked> all;
  all.emplace_back(2);
  all.emplace_back(40);
  const int x = co_await with_vector(g, std::move(all));
  co_return x;
}
Task<int> named_object_method(Gate& g) {
  const Maker maker(40);
  auto t = co_await maker.method(g, 2);
  co_return t.value();
}
Task<int> captureless_lambda(Gate& g) {
  const auto body = [](Gate& gate, Tracked t) -> Task<int> {
    (void)co_await gate.pass();
    co_return t.value();
  };
  const int x = co_await body(g, Tracked(42));
  co_return x;
}
Task<int> task_named_first(Gate& g) {
  auto task = take(g, Tracked(42));
  const int x = co_await task;
  co_return x;
}
Task<int> task_moved_on(Gate& g) {
  auto task = make(g, 42);
  auto bounded = shielded(std::move(task));
  auto t = co_await bounded;
  co_return t.value();
}
Task<int> array_of_named(Gate& g) {
  auto a = co_await make(g, 2);
  auto b = co_await make(g, 40);
  const std::array<Tracked, 2> both{std::move(a), std::move(b)};
  co_return both[0].value() + both[1].value();
}
Task<int> aggregate_of_named(Gate& g) {
  auto a = co_await make(g, 2);
  auto b = co_await make(g, 39);
  const Options o{.first = std::move(a), .second = std::move(b), .third = 1};
  co_return o.first.value() + o.second.value() + o.third;
}
Task<int> pair_bound_by_reference(Gate& g) {
  struct Two {
    static Task<std::pair<Tracked, Tracked>> run(Gate& gate) {
      (void)co_await gate.pass();
      co_return std::pair<Tracked, Tracked>(Tracked(2), Tracked(40));
    }
  };
  auto p = co_await Two::run(g);
  auto& [a, b] = p;
  co_return a.value() + b.value();
}
Task<int> expected_and_try(Gate& g) {
  auto first = co_await maybe(g, 42);
  if (!first) co_return 42;  // cancelled
  auto second = co_await maybe(g, -1);
  if (!second) co_return first->value();
  co_return 0;
}
Task<int> try_macros(Gate& g) {
  struct Inner {
    static Task<Result<int>> run(Gate& gate) {
      auto a = co_await maybe(gate, 2);
      CO_TRY(const Tracked first, std::move(a));
      auto b = co_await maybe(gate, 40);
      CO_TRY(const Tracked second, std::move(b));
      co_return first.value() + second.value();
    }
  };
  auto r = co_await Inner::run(g);
  co_return r ? *r : 42;
}
Task<int> await_in_try_block(Gate& g) {
  int x = 0;
  try {
    x = co_await throws(g, Tracked(42));
  } catch (int thrown) {
    x = thrown;
  }
  co_return x;
}
Task<int> locals_across_awaits(Gate& g) {
  Tracked a(1);
  std::string text = "a text that is too long for the short string buffer";
  co_await nothing(g);
  {
    const Tracked b(1);
    co_await nothing(g);
    const std::optional<Tracked> c(std::in_place, 40);
    co_await nothing(g);
    a = Tracked(a.value() + b.value() + c->value());
  }
  co_await nothing(g);
  co_return text.empty() ? 0 : a.value();
}
Task<int> range_loop(Gate& g) {
  std::vector<Tracked> all(3, Tracked(14));
  int sum = 0;
  for (const Tracked& t : all) {
    const int x = co_await look(g, t);
    sum += x;
  }
  co_return sum;
}
Task<int> recursion(Gate& g) {
  struct Deep {
    static Task<int> run(Gate& gate, Tracked t, int n) {
      if (n == 0) co_return co_await take(gate, std::move(t));
      const int below = co_await run(gate, t, n - 1);
      co_return below;
    }
  };
  co_return co_await Deep::run(g, Tracked(42), 5);
}
Task<int> variant_result(Gate& g) {
  struct Inner {
    static Task<std::variant<int, Tracked>> run(Gate& gate) {
      (void)co_await gate.pass();
      co_return Tracked(42);
    }
  };
  auto v = co_await Inner::run(g);
  co_return std::get<Tracked>(v).value();
}
Task<int> bounded_in_time(Gate& g) {
  auto r = co_await with_timeout(1h, kLate, maybe(g, 42));
  co_return r ? r->value() : 42;
}

using Form = Task<int> (*)(Gate&);
struct Named {
  const char* name;
  Form form;
};
constexpr Named kForms[] = {
    {"statement", statement},
    {"declared", declared},
    {"declared_auto", declared_auto},
    {"assigned", assigned},
    {"assigned_tracked", assigned_tracked},
    {"returned", returned},
    {"discarded", discarded},
    {"named_condition", named_condition},
    {"named_loop_condition", named_loop_condition},
    {"named_switch", named_switch},
    {"temporary_argument", temporary_argument},
    {"named_argument_moved", named_argument_moved},
    {"argument_by_reference", argument_by_reference},
    {"named_options", named_options},
    {"named_vector", named_vector},
    {"named_object_method", named_object_method},
    {"captureless_lambda", captureless_lambda},
    {"task_named_first", task_named_first},
    {"task_moved_on", task_moved_on},
    {"array_of_named", array_of_named},
    {"aggregate_of_named", aggregate_of_named},
    {"pair_bound_by_reference", pair_bound_by_reference},
    {"expected_and_try", expected_and_try},
    {"try_macros", try_macros},
    {"await_in_try_block", await_in_try_block},
    {"locals_across_awaits", locals_across_awaits},
    {"range_loop", range_loop},
    {"recursion", recursion},
    {"variant_result", variant_result},
    {"bounded_in_time", bounded_in_time},
};

// A root whose frame may be destroyed at will, as nothing in the product may be.
struct Root {
  struct promise_type : PromiseBase {
    Root get_return_object() noexcept {
      return Root{std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    void return_void() noexcept {}
  };
  std::coroutine_handle<promise_type> handle;
};
Root run(Task<int> task, int& result) {
  const int x = co_await task;
  result = x;
}

enum class Leave { never, cancel, destroy };

// Runs `form` and leaves it at its `at`-th suspension; returns how many it had.
int walk(Form form, Leave leave, int at, int& result) {
  ManualLoop loop;
  CancelSource source;
  Gate gate;
  Root root = run(form(gate), result);
  root.handle.promise().executor = &loop.executor();
  root.handle.promise().cancel = &source;
  root.handle.resume();
  loop.run();
  int suspensions = 0;
  while (gate.holding()) {
    ++suspensions;
    if (leave == Leave::destroy && suspensions == at) break;
    if (leave == Leave::cancel && suspensions == at) {
      source.cancel(kStop);
      gate.open();  // for what is shielded
    } else {
      gate.open();
    }
    loop.run();
  }
  CHECK((leave == Leave::destroy || root.handle.done()));
  CHECK_FALSE(root.handle.promise().exception);
  root.handle.destroy();
  loop.run();
  return suspensions;
}

TEST_CASE("compiler traps: every form that we use, left at every suspension in every way") {
  for (const Named& f : kForms) {
    CAPTURE(f.name);
    const FrameCheck frames;
    int result = 0;
    const int suspensions = walk(f.form, Leave::never, 0, result);
    CHECK(result == 42);
    CHECK(suspensions > 0);
    CHECK(Tracked::live == 0);
    for (int at = 1; at <= suspensions; ++at) {
      CAPTURE(at);
      result = 0;
      walk(f.form, Leave::cancel, at, result);
      CHECK(result != 0);
      CHECK(Tracked::live == 0);
      result = 0;
      walk(f.form, Leave::destroy, at, result);
      CHECK(result == 0);
      CHECK(Tracked::live == 0);
    }
  }
}

}  // namespace
}  // namespace perigee::coro
