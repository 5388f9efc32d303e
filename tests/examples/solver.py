"""Solves a sheet from its text alone: derives each formula symbolically and writes NumPy code.

It shares nothing with the judge. The rules of differentiation are written out here, on Python's own
syntax tree, as a student applies them on paper.
"""

import ast
import re

OUTER = {  # the derivative of each function, by its argument
    "exp": "np.exp({u})",
    "log": "1 / ({u})",
    "sqrt": "0.5 / np.sqrt({u})",
    "tanh": "(1 - np.tanh({u})**2)",
    "arctan": "1 / (1 + ({u})**2)",
    "sigmoid": "sigmoid({u}) * sigmoid(-({u}))",
    "abs": "np.where(({u}) < 0, -1.0, 1.0)",
}
SIGMOID = """
def sigmoid(u):
    e = np.exp(-np.abs(u))
    return np.where(u > 0, 1, e) / (1 + e)

"""


def code(node):
    """A formula in NumPy."""
    match node:
        case ast.IfExp():
            test, body, orelse = map(code, (node.test, node.body, node.orelse))
            return f"np.where({test}, {body}, {orelse})"
        case ast.BinOp():
            sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
            return f"({code(node.left)} {sign[type(node.op)]} {code(node.right)})"
        case ast.UnaryOp():
            return f"(-{code(node.operand)})"
        case ast.Compare():
            sign = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">"}[type(node.ops[0])]
            return f"({code(node.left)} {sign} {code(node.comparators[0])})"
        case ast.Call(func=ast.Name(id=name)):
            u = ", ".join(map(code, node.args))
            own = {"max": "maximum", "min": "minimum"}
            if name == "row_mean":
                return f"np.mean({u}, axis=1, keepdims=True)"
            return f"sigmoid({u})" if name == "sigmoid" else f"np.{own.get(name, name)}({u})"
    return ast.unparse(node)


def derivative(node, by):
    """Of an elementwise formula, by one of its names, in NumPy."""
    match node:
        case ast.Constant():
            return "0.0"
        case ast.Name():
            return "1.0" if node.id == by else "0.0"
        case ast.UnaryOp():
            return f"(-{derivative(node.operand, by)})"
        case ast.IfExp():
            body, orelse = derivative(node.body, by), derivative(node.orelse, by)
            return f"np.where({code(node.test)}, {body}, {orelse})"
        case ast.BinOp(left=a, op=op, right=b):
            da, db = derivative(a, by), derivative(b, by)
            match op:
                case ast.Add() | ast.Sub():
                    return f"({da} {'+' if isinstance(op, ast.Add) else '-'} {db})"
                case ast.Mult():
                    return f"({da} * {code(b)} + {code(a)} * {db})"
                case ast.Div():
                    return f"(({da} * {code(b)} - {code(a)} * {db}) / {code(b)}**2)"
                case ast.Pow():
                    assert ast.unparse(b) == "2"
                    return f"(2 * {code(a)} * {da})"
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=[a, b]):
            sign = ">=" if name == "max" else "<="
            test = f"{code(a)} {sign} {code(b)}"
            return f"np.where({test}, {derivative(a, by)}, {derivative(b, by)})"
        case ast.Call(func=ast.Name(id=name), args=[u]):
            return f"({OUTER[name].format(u=code(u))} * {derivative(u, by)})"
    raise AssertionError(ast.unparse(node))


def parsed(text):
    return ast.parse(text, mode="eval").body


def formulas(sheet):
    """The lines of each design in a sheet's text: {"activation": {"u": "x - 0.3", …}, …}."""
    found, name = {}, ""
    for line in sheet.splitlines():
        if heading := re.match(r"(\w+)\.py:", line):
            name = heading[1]
        elif assignment := re.match(r" {4}(\w+) = (.*)", line):
            found.setdefault(name, []).append((assignment[1], assignment[2]))
    return found


def solve(sheet):
    """The four files that solve a sheet, from its text."""
    designs = formulas(sheet)
    start = f"import numpy as np\n{SIGMOID}\n"
    makers = {"activation": activation, "loss": loss, "layer": layer, "optimiser": optimiser}
    return {f"{name}.py": start + maker(designs[name]) for name, maker in makers.items()}


def activation(lines):
    (_, u), (_, y) = lines
    return f"""
class Activation:
    def forward(self, x, rng=None):
        u = {u}
        return {code(parsed(y))}, u

    def backward(self, dy, cache):
        u = cache
        return dy * {derivative(parsed(y), "u")}
"""


def loss(lines):
    (_, s), (_, r), (_, term), (_, mean) = lines
    share = {"mean(l)": "l.size", "sum(l) / n": "n"}[mean]
    return f"""
def loss(y, t):
    n = len(y)
    s = {s}
    r = {r}
    l = {code(parsed(term))}
    return {code(parsed(mean))}, {derivative(parsed(term), "r")} / {share}
"""


def layer(lines):
    (_, m), (_, y) = lines
    inner = next(
        n for n in ast.walk(parsed(m)) if isinstance(n, ast.Call) and n.func.id == "row_mean"
    )
    text = ast.unparse(inner)
    outer = parsed(ast.unparse(parsed(m)).replace(text, "R"))
    y = parsed(y)
    return f"""
class Layer:
    parameters = ("gamma", "beta")

    def __init__(self, k):
        self.gamma, self.beta = np.ones(k), np.zeros(k)
        self.dgamma, self.dbeta = np.empty(k), np.empty(k)

    def forward(self, x, rng=None):
        gamma, beta = self.gamma, self.beta
        m = {code(parsed(m))}
        return {code(y)}, (x, m)

    def backward(self, dy, cache):
        gamma, beta = self.gamma, self.beta
        x, m = cache
        R = {code(inner)}
        dm = np.sum(dy * {derivative(y, "m")}, axis=1, keepdims=True)
        dR = dm * {derivative(outer, "R")}
        return dy * {derivative(y, "x")} + dR * {derivative(inner.args[0], "x")} / x.shape[1]

    def parameter_gradients(self, dy, cache):
        gamma, beta = self.gamma, self.beta
        x, m = cache
        self.dgamma[:] = np.sum(dy * {derivative(y, "gamma")}, axis=0)
        self.dbeta[:] = np.sum(dy * {derivative(y, "beta")}, axis=0)
"""


def optimiser(lines):
    body = "\n        ".join(f"{name} = {code(parsed(line))}" for name, line in lines[:-1])
    _, last = lines[-1]
    step = last.removeprefix("theta - ")
    return f"""
class Optimiser:
    def __init__(self, theta, gradient):
        self.theta, self.gradient = theta, gradient
        self.m, self.v = np.zeros_like(theta), np.zeros_like(theta)
        self.t = 0

    def step(self):
        self.t += 1
        theta, g, m, v, t = self.theta, self.gradient, self.m, self.v, self.t
        {body}
        self.m, self.v = m, v
        self.theta -= {code(parsed(step))}
"""


# A student's solution of parts 1 to 4, written without a look at the package

PRACTICE = {
    "layers.Dense.forward": "return x @ self.W + self.b, x",
    "layers.Dense.backward": "return dy @ self.W.T",
    "layers.Dense.parameter_gradients": """
x = cache
self.dW[:] = x.T @ dy
self.db[:] = dy.sum(axis=0)
""",
    "layers.ReLU.forward": "return self.xp.maximum(x, 0), x",
    "layers.ReLU.backward": """
x = cache
return dy * (x > 0)
""",
    "layers.sigmoid": """
e = xp.exp(-abs(x))
return xp.where(x >= 0, 1, e) / (1 + e)
""",
    "layers.Sigmoid.backward": """
y = cache
return dy * y * (1 - y)
""",
    "layers.Dropout.forward": """
if rng is None:
    return x, None
scale = 1 / (1 - self.rate)
mask = scale * (rng.random(x.shape) >= self.rate)
return x * mask, mask
""",
    "layers.Dropout.backward": """
mask = cache
return dy if mask is None else dy * mask
""",
    "losses.bce": """
if ((p <= 0) | (p >= 1)).any():
    raise ValueError("p is not a probability")
n = p.size
return -(t * xp.log(p) + (1 - t) * xp.log(1 - p)).mean(), (p - t) / (p * (1 - p)) / n
""",
    "losses.bce_with_logits": """
n, e = logits.size, xp.exp(-abs(logits))
s = xp.where(logits >= 0, 1, e) / (1 + e)
loss = xp.maximum(logits, 0) - logits * t + xp.log1p(e)
return loss.mean(), (s - t) / n
""",
    "layers.Sequential.backward": """
for layer, cache in zip(self.layers[::-1], caches[::-1]):
    if parameters and hasattr(layer, "parameters"):
        layer.parameter_gradients(dy, cache)
    dy = layer.backward(dy, cache)
return dy if inputs else None
""",
    "optim.Adam.step": """
self.t += 1
g, t, xp = self.gradient, self.t, self.xp
self.m = self.beta1 * self.m + (1 - self.beta1) * g
self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
m = self.m / (1 - self.beta1**t)
v = self.v / (1 - self.beta2**t)
step = self.learning_rate * m / (xp.sqrt(v) + self.epsilon)
self.parameters -= step
""",
    "Model.reconstruction_gradient": """
codes, first = self.encoder.forward(x, rng)
logits, second = self.decoder.forward(codes, rng)
loss, dlogits = bce_with_logits(self.xp, logits, x)
dcodes = self.decoder.backward(dlogits, second)
self.encoder.backward(dcodes, first)
return loss
""",
    "Model.discriminator_gradient": """
n = len(codes)
real = self._with_labels(self.draw_prior(rng, n, labels), labels)
both = self.xp.concatenate((real, self._with_labels(codes, labels)))
logits, caches = self.discriminator.forward(both, rng)
a, da = bce_with_logits(self.xp, logits[:n], 1.0)
b, db = bce_with_logits(self.xp, logits[n:], 0.0)
self.discriminator.backward(self.xp.concatenate((da, db)), caches)
return a + b
""",
    "Model.generator_gradient": """
seen = self._with_labels(codes, labels)
logits, caches = self.discriminator.forward(seen, rng)
loss, dlogits = bce_with_logits(self.xp, logits, 1.0)
dseen = self.discriminator.backward(dlogits, caches, parameters=False)
self.encoder.backward(dseen[:, : codes.shape[1]], encoder_caches)
return loss
""",
}


def filled(text, bodies):
    """A file as `start` writes it, with bodies in place of what they are to replace."""
    for code, body in bodies.items():
        blank = re.search(rf'^( *)raise NotImplementedError\("{re.escape(code)}"\)', text, re.M)
        if blank:
            lines = [blank[1] + line for line in body.strip("\n").splitlines()]
            text = text.replace(blank[0], "\n".join(lines))
    return text
