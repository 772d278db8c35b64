"""What planner and executors are asked."""

TASK = "{task}"
PLANNER_PROMPT = (
    "You are the planner. Answer the question by delegating tasks: you can't search yourself. In each turn, first "
    "think between <think> and </think>. Then either write one small, self-contained task between <task> and </task>, "
    "whose result comes back between <result> and </result>, or, once you know enough, the final answer between "
    "<answer> and </answer>, as short as possible. A task names everything it is about, since whoever carries it out "
    "sees neither the question nor earlier results. For example: <task> Find out where Ada Lovelace was born. </task>, "
    "later <answer> London </answer>.\nQuestion: {question}\n"
)
EXECUTOR_PROMPT = (
    "You are the executor of one task. In each turn, first think between <think> and </think>. Search by writing a "
    "query between <search> and </search>; what is found comes back between <documents> and </documents>. After "
    "reading, write what matters of it between <refine> and </refine>. You can search several times. Finish with the "
    "task's result between <answer> and </answer>, short and self-contained.\nTask: {task}\n"
)
