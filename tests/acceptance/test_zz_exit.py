import pytest
from acceptance.system import running
@pytest.mark.parametrize("fail", ["exit", "cancelled"])
def test_exit(new_system, fail):
    with running(new_system()) as system:
        w = system.start("worker"); system.start_web(); w.wait_until_says("worker.ready")
        try:
            print(system.request("POST", "/runs/wait", {"assistant_id":"failing","input":{"fail":fail}}))
            print(system.request("POST", "/runs/wait", {"assistant_id":"compiled","input":{"said":[]}}))
        except Exception as e:
            print("ERR", e)
        print(w.is_alive()); print(w.said()[-1500:])
